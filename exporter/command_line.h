// The command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "exporter/listen_address.h"

namespace pangolin {

// Exit codes of the whole program.
inline constexpr int exit_success = 0;  // also when metrics are switched off
inline constexpr int exit_failure = 1;  // something failed while running
inline constexpr int exit_usage = 2;    // the command line or the configuration is wrong

enum class Command : std::uint8_t { serve, check, catalog, top, detach };
enum class LogLevel : std::uint8_t { debug, info, warn, error };
enum class LogFormat : std::uint8_t { logfmt, json };
enum class CatalogFormat : std::uint8_t { markdown, json };

struct CommandLine {
    Command command = Command::serve;
    // --config.file; none: look for it.
    std::optional<std::string> config_file;
    // --web.listen-address; empty: as the configuration says.
    std::vector<ListenAddress> listen;
    std::string telemetry_path = "/metrics";
    // --web.config.file; empty: none.
    std::string web_config_file;
    LogLevel log_level = LogLevel::info;
    LogFormat log_format = LogFormat::logfmt;
    CatalogFormat catalog_format = CatalogFormat::markdown;
    std::chrono::milliseconds top_interval = std::chrono::seconds(1);
};

// The program's work is done: print `output` (it ends with a newline) and end with `code`.
struct CommandLineExit {
    int code = exit_success;
    // To standard error when `code` is not 0.
    std::string output;
};

// Reads main()'s arguments. --help and --version end with 0, mistakes with exit_usage and one line
// "pangolin_exporter: what (HINT: what to do)".
std::variant<CommandLine, CommandLineExit> parse_command_line(int argc, const char* const* argv);

}  // namespace pangolin
