#include "exporter/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "exporter/duration.h"
#include "loader/base/error.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

constexpr const char* program = "pangolin_exporter";
constexpr auto least_interval = std::chrono::milliseconds(100);
constexpr auto greatest_interval = std::chrono::hours(1);

// Option values as they were written. What they mean is decided after CLI11 is through, so that every mistake
// is worded by us, with a hint.
struct Texts {
    std::string config_file;
    std::vector<std::string> listen;
    std::string telemetry_path = "/metrics";
    std::string web_config_file;
    std::string log_level = "info";
    std::string log_format = "logfmt";
    std::string catalog_format = "markdown";
    std::string interval = "1s";
    bool detach = false;
};

void define(CLI::App& app, Texts& texts) {
    app.set_version_flag("--version", std::string(program) + " " PANGOLIN_VERSION,
                         "Print the version and exit");
    app.set_help_flag("-h,--help", "Print this help and exit");
    // What nobody knows is collected and reported by us, with the nearest option.
    app.allow_extras();
    app.add_option("--config.file", texts.config_file,
                   "Pangolin's config.yml (default: ./config/config.yml, ./config.yml, "
                   "/opt/pangolin/config/config.yml, else the defaults)")
        ->type_name("FILE");
    app.add_option("--web.listen-address", texts.listen,
                   "Address to listen on, HOST:PORT or :PORT; may be repeated; wins over the file")
        ->type_name("ADDRESS")
        ->expected(1)
        ->take_all();
    app.add_option("--web.telemetry-path", texts.telemetry_path, "Path of the metrics page")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_option("--web.config.file", texts.web_config_file,
                   "TLS, users, headers and rate of requests for the endpoint, in the format of Prometheus' "
                   "exporters")
        ->type_name("FILE");
    app.add_option("--log.level", texts.log_level, "debug, info, warn or error")
        ->type_name("LEVEL")
        ->capture_default_str();
    app.add_option("--log.format", texts.log_format, "logfmt or json")
        ->type_name("FORMAT")
        ->capture_default_str();
    app.add_flag("--detach", texts.detach,
                 "Detach and remove all that exporters left in the kernel to count on, and exit");
    app.footer(
        "Without a command the exporter measures and publishes until it is stopped.\n"
        "Exit codes: 0 ended as asked, or metrics are switched off; 1 something failed; "
        "2 command line or configuration is wrong.");
}

void define_commands(CLI::App& app, Texts& texts) {
    app.require_subcommand(0, 1);
    CLI::App* check =
        app.add_subcommand("check", "Show what this host offers, what is missing and what to do");
    CLI::App* catalog = app.add_subcommand("catalog", "Print the table of all metrics");
    catalog->add_option("--format", texts.catalog_format, "markdown or json")
        ->type_name("FORMAT")
        ->capture_default_str();
    CLI::App* top = app.add_subcommand("top", "Show the sites' traffic live in the terminal");
    top->add_option("--interval", texts.interval, "Time between two pictures, as in 500ms or 2s")
        ->type_name("DURATION")
        ->capture_default_str();
    for (CLI::App* command : {check, catalog, top}) {
        command->fallthrough();
        command->allow_extras();
    }
}

void collect_options(const CLI::App& from, std::set<std::string>& names) {
    for (const CLI::Option* option : from.get_options())
        for (const std::string& name : option->get_lnames())
            names.insert("--" + name);
}

Error unknown_option(const CLI::App& app, const std::string& name) {
    for (const CLI::App* command : app.get_subcommands({})) {
        std::set<std::string> names;
        collect_options(*command, names);
        if (names.contains(name))
            return {fmt::format("option '{}' belongs to the command '{}'", name, command->get_name()),
                    fmt::format("Write '{} {} {} ...'.", program, command->get_name(), name), 0};
    }
    std::set<std::string> names;
    collect_options(app, names);
    for (const CLI::App* command : app.get_subcommands())
        collect_options(*command, names);
    const std::vector<std::string_view> candidates(names.begin(), names.end());
    return {fmt::format("unknown option {}", in_quotes(name)), suggestion(name, candidates, "options"), 0};
}

Error unknown_argument(const CLI::App& app, const std::string& argument) {
    static constexpr std::array<std::string_view, 3> commands{"check", "catalog", "top"};
    if (argument.starts_with('-'))
        return unknown_option(app, argument.substr(0, argument.find('=')));
    if (app.get_subcommands().empty())
        return {fmt::format("unknown command {}", in_quotes(argument)),
                suggestion(argument, commands, "commands"), 0};
    return {fmt::format("unexpected argument {}", in_quotes(argument)),
            "Give one command; everything else is an option.", 0};
}

template <class T, std::size_t N>
Result<T> choose(std::string_view option, const std::string& text,
                 const std::array<std::pair<std::string_view, T>, N>& choices) {
    std::vector<std::string_view> words;
    for (const auto& [word, meaning] : choices) {
        if (text == word)
            return meaning;
        words.push_back(word);
    }
    return failure(fmt::format("{}: unknown value {}", option, in_quotes(text)),
                   suggestion(text, words, "values"));
}

Result<std::vector<ListenAddress>> listen_addresses(const std::vector<std::string>& texts) {
    std::vector<ListenAddress> addresses;
    for (const std::string& text : texts) {
        auto address = ListenAddress::parse(text);
        if (!address)
            return failure("--web.listen-address: " + address.error().what, address.error().hint);
        // Port 0 is another port each time.
        if (address->port != 0 && std::ranges::find(addresses, *address) != addresses.end())
            return failure(fmt::format("--web.listen-address: {} is given twice", in_quotes(text)),
                           "Remove one of the two.");
        addresses.push_back(std::move(*address));
    }
    return addresses;
}

Result<std::string> telemetry_path(const std::string& text) {
    constexpr std::string_view allowed =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-~";
    if (!text.starts_with('/') || text.find_first_not_of(allowed) != std::string::npos)
        return failure(
            fmt::format("--web.telemetry-path: {} is not a path", in_quotes(text)),
            "Begin with '/' and use letters, digits, '.', '_', '-', '~' and '/' only, as in /metrics.");
    for (const std::string_view taken : {"/", "/healthz", "/readyz"})
        if (text == taken)
            return failure(
                fmt::format("--web.telemetry-path: {} is another page of this exporter", in_quotes(text)),
                "Choose another path, as in /metrics.");
    return text;
}

Command given_command(const CLI::App& app) {
    static const std::map<std::string, Command> commands{
        {"check", Command::check}, {"catalog", Command::catalog}, {"top", Command::top}};
    const auto given = app.get_subcommands();
    return given.empty() ? Command::serve : commands.at(given.front()->get_name());
}

// Moves the value into its place, or keeps the first error.
template <class T>
void take(Result<T> value, T& place, std::optional<Error>& error) {
    if (value)
        place = std::move(*value);
    else if (!error)
        error = value.error();
}

Result<CommandLine> interpret(const CLI::App& app, const Texts& texts) {
    using enum LogLevel;
    static constexpr std::array<std::pair<std::string_view, LogLevel>, 4> levels{
        {{"debug", debug}, {"info", info}, {"warn", warn}, {"error", LogLevel::error}}};
    static constexpr std::array<std::pair<std::string_view, LogFormat>, 2> log_formats{
        {{"logfmt", LogFormat::logfmt}, {"json", LogFormat::json}}};
    static constexpr std::array<std::pair<std::string_view, CatalogFormat>, 2> catalog_formats{
        {{"markdown", CatalogFormat::markdown}, {"json", CatalogFormat::json}}};
    for (const std::string& unknown : app.remaining(true))
        if (unknown != "--")
            return std::unexpected(unknown_argument(app, unknown));
    CommandLine line;
    line.command = given_command(app);
    if (app.count("--config.file") > 0) {
        if (texts.config_file.empty())
            return failure("--config.file: the path is empty",
                           "Name Pangolin's config.yml, or leave the option out.");
        line.config_file = texts.config_file;
    }
    if (app.count("--web.config.file") > 0 && texts.web_config_file.empty())
        return failure("--web.config.file: the path is empty", "Name a file, or leave the option out.");
    line.web_config_file = texts.web_config_file;
    if (texts.detach) {
        if (line.command != Command::serve)
            return failure("--detach goes with no command", "Write 'pangolin_exporter --detach'.");
        line.command = Command::detach;
    }
    std::optional<Error> mistake;
    take(listen_addresses(texts.listen), line.listen, mistake);
    take(telemetry_path(texts.telemetry_path), line.telemetry_path, mistake);
    take(choose("--log.level", texts.log_level, levels), line.log_level, mistake);
    take(choose("--log.format", texts.log_format, log_formats), line.log_format, mistake);
    take(choose("--format", texts.catalog_format, catalog_formats), line.catalog_format, mistake);
    auto interval = parse_duration(texts.interval, least_interval, greatest_interval);
    if (!interval)
        interval.error().what.insert(0, "--interval: ");
    take(std::move(interval), line.top_interval, mistake);
    if (mistake)
        return std::unexpected(std::move(*mistake));
    return line;
}

CommandLineExit mistake(const Error& error) {
    return {exit_usage, fmt::format("{}: {}\n", program, error.message())};
}

}  // namespace

std::variant<CommandLine, CommandLineExit> parse_command_line(int argc, const char* const* argv) {
    Texts texts;
    CLI::App app("Publishes what really happens on the WireGuard tunnels of a Pangolin host to Prometheus.",
                 program);
    define(app, texts);
    define_commands(app, texts);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        return CommandLineExit{exit_success, app.help()};
    } catch (const CLI::CallForVersion& version) {
        return CommandLineExit{exit_success, std::string(version.what()) + "\n"};
    } catch (const CLI::ParseError& error) {
        return mistake({error.what(), fmt::format("See '{} --help'.", program), 0});
    }
    auto line = interpret(app, texts);
    if (!line)
        return mistake(line.error());
    return std::move(*line);
}

}  // namespace pangolin
