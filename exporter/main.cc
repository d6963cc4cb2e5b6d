#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <system_error>
#include <variant>

#include "exporter/command_line.h"
#include "exporter/commands.h"
#include "exporter/configuration.h"
#include "exporter/logging.h"
#include "exporter/standard_streams.h"
#include "exporter/web_security/web_guard.h"

namespace {

using namespace pangolin;

int run(const CommandLine& command_line) {
    if (command_line.command == Command::catalog)
        return print_catalogue(command_line.catalog_format);
    const auto loaded = load_configuration(command_line.config_file);
    if (!loaded) {
        spdlog::error("{}", loaded.error().message());
        return exit_usage;
    }
    if (!loaded->configuration && command_line.command == Command::detach)
        return detach(Configuration());
    if (!loaded->configuration) {
        // A program that ends at once says why.
        log_always(loaded->summary);
        return exit_success;
    }
    spdlog::info("{}", loaded->summary);
    if (!command_line.web_config_file.empty())
        if (const auto guard = WebGuard::open(command_line.web_config_file); !guard) {
            spdlog::error("{}", guard.error().message());
            return exit_usage;
        }
    switch (command_line.command) {
        case Command::check:
            return check(command_line, *loaded->configuration);
        case Command::detach:
            return detach(*loaded->configuration);
        case Command::top:
            return top(command_line, *loaded->configuration);
        default:
            return serve(command_line, *loaded->configuration);
    }
}

int run(int argc, char** argv) {
    const auto parsed = parse_command_line(argc, argv);
    if (const auto* const end = std::get_if<CommandLineExit>(&parsed)) {
        fmt::print(end->code == exit_success ? stdout : stderr, "{}", end->output);
        return end->code;
    }
    const auto& command_line = std::get<CommandLine>(parsed);
    start_logging(command_line.log_level, command_line.log_format);
    return run(command_line);
}

void report(const std::exception& error) {
    const auto* const system = dynamic_cast<const std::system_error*>(&error);
    if (system != nullptr && std::ferror(stdout) != 0)
        spdlog::error("{}", Error{"cannot write to standard output: " + system->code().message(),
                                  "Look at what reads it, or at the disk that it is written to.", 0}
                                .message());
    else
        spdlog::error(
            "{}",
            Error{error.what(), "If memory has not run out, this is a defect of the exporter.", 0}.message());
}

}  // namespace

int main(int argc, char** argv) {
    // A reader that goes away makes a write fail; the program ends in order then.
    std::signal(SIGPIPE, SIG_IGN);
    open_standard_streams();
    try {
        start_logging(LogLevel::info, LogFormat::logfmt);
        const int code = run(argc, argv);
        flush_standard_output();
        return code;
    } catch (const std::exception& error) {
        report(error);
        return exit_failure;
    }
}
