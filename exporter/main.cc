#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <variant>

#include "exporter/command_line.h"
#include "exporter/commands.h"
#include "exporter/configuration.h"
#include "exporter/logging.h"

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
    if (!loaded->configuration) {
        // Whatever the log level: a program that ends at once says why.
        fmt::print(stderr, "pangolin_exporter: {}\n", loaded->summary);
        return exit_success;
    }
    spdlog::info("{}", loaded->summary);
    for (const std::string& warning : loaded->warnings)
        spdlog::warn("{}", warning);
    switch (command_line.command) {
        case Command::check:
            return check(command_line, *loaded->configuration);
        case Command::top:
            return top(command_line, *loaded->configuration);
        default:
            return serve(command_line, *loaded->configuration);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto parsed = parse_command_line(argc, argv);
    if (const auto* const end = std::get_if<CommandLineExit>(&parsed)) {
        fmt::print(end->code == exit_success ? stdout : stderr, "{}", end->output);
        return end->code;
    }
    const auto& command_line = std::get<CommandLine>(parsed);
    start_logging(command_line.log_level, command_line.log_format);
    return run(command_line);
}
