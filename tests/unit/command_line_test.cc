#include "exporter/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::variant<CommandLine, CommandLineExit> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "pangolin_exporter");
    return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

CommandLine must_parse(const std::vector<const char*>& arguments) {
    auto result = parse(arguments);
    if (const auto* end = std::get_if<CommandLineExit>(&result)) {
        ADD_FAILURE() << end->output;
        return {};
    }
    return std::get<CommandLine>(result);
}

TEST(CommandLine, Defaults) {
    const CommandLine line = must_parse({});
    EXPECT_EQ(line.command, Command::serve);
    EXPECT_FALSE(line.config_file);
    EXPECT_TRUE(line.listen.empty());
    EXPECT_EQ(line.telemetry_path, "/metrics");
    EXPECT_EQ(line.log_level, LogLevel::info);
    EXPECT_EQ(line.log_format, LogFormat::logfmt);
}

TEST(CommandLine, EveryOption) {
    const CommandLine line =
        must_parse({"--config.file", "/a b.yml", "--web.listen-address=:9000", "--web.listen-address",
                    "[::1]:0", "--web.telemetry-path=/m", "--log.level=debug", "--log.format", "json"});
    EXPECT_EQ(line.config_file, "/a b.yml");
    EXPECT_THAT(line.listen, ElementsAre(ListenAddress{"", 9000}, ListenAddress{"::1", 0}));
    EXPECT_EQ(line.telemetry_path, "/m");
    EXPECT_EQ(line.log_level, LogLevel::debug);
    EXPECT_EQ(line.log_format, LogFormat::json);
}

TEST(CommandLine, CommandsTakeTheProgramsOptionsToo) {
    EXPECT_EQ(must_parse({"check"}).command, Command::check);
    EXPECT_EQ(must_parse({"--config.file=x", "check"}).config_file, "x");
    EXPECT_EQ(must_parse({"check", "--config.file=x"}).config_file, "x");
    EXPECT_EQ(must_parse({"catalog"}).catalog_format, CatalogFormat::markdown);
    EXPECT_EQ(must_parse({"catalog", "--format=json"}).catalog_format, CatalogFormat::json);
    const CommandLine top = must_parse({"top", "--interval", "500ms", "--log.level=warn"});
    EXPECT_EQ(top.command, Command::top);
    EXPECT_EQ(top.top_interval, 500ms);
    EXPECT_EQ(top.log_level, LogLevel::warn);
}

TEST(CommandLine, HelpAndVersionEndWell) {
    for (const std::vector<const char*>& arguments :
         {std::vector{"--help"}, {"-h"}, {"--version"}, {"check", "--help"}, {"top", "-h"}}) {
        const auto result = parse(arguments);
        const auto* end = std::get_if<CommandLineExit>(&result);
        ASSERT_NE(end, nullptr);
        EXPECT_EQ(end->code, exit_success);
        EXPECT_THAT(end->output, EndsWith("\n"));
    }
    EXPECT_THAT(std::get<CommandLineExit>(parse({"--version"})).output, StartsWith("pangolin_exporter "));
    const auto help = std::get<CommandLineExit>(parse({"--help"})).output;
    for (const char* word :
         {"--config.file", "--web.listen-address", "--web.telemetry-path", "--web.config.file", "--log.level",
          "--log.format", "--version", "check", "catalog", "top"})
        EXPECT_THAT(help, HasSubstr(word));
}

struct BadArguments {
    std::vector<const char*> arguments;
    const char* what;
    const char* hint;
};

TEST(CommandLine, MistakesAreOneLineWithAHint) {
    const BadArguments rows[] = {
        {{"--config.fil=x"}, "unknown option '--config.fil'", "Did you mean '--config.file'?"},
        {{"--config-file", "x"}, "unknown option '--config-file'", "Did you mean '--config.file'?"},
        {{"--web.listen-adress", ":1"},
         "unknown option '--web.listen-adress'",
         "Did you mean '--web.listen-address'?"},
        {{"--web.config=x"}, "unknown option '--web.config'", "--web.config.file"},
        {{"--web.config.file", ""}, "--web.config.file: the path is empty", "leave the option out"},
        {{"-x"}, "unknown option '-x'", "Valid options are"},
        {{"top", "--intervall=1s"}, "unknown option '--intervall'", "Did you mean '--interval'?"},
        {{"--interval=1s"},
         "option '--interval' belongs to the command 'top'",
         "pangolin_exporter top --interval"},
        {{"chekc"}, "unknown command 'chekc'", "Did you mean 'check'?"},
        {{"serve"}, "unknown command 'serve'", "check, catalog, top"},
        {{"check", "top"}, "unexpected argument 'top'", "one command"},
        {{"check", "extra"}, "unexpected argument 'extra'", "one command"},
        {{"\x1b[31m\n"}, "unknown command '\\x1b[31m\\x0a'", "Valid commands"},
        {{"--config.file"}, "--config.file", "--help"},
        {{"--config.file="}, "--config.file", ""},
        {{"--config.file", ""}, "--config.file: the path is empty", "config.yml"},
        {{"--config.file=a", "--config.file=b"}, "--config.file", "--help"},
        {{"--web.listen-address=9464"}, "--web.listen-address: '9464' is not an address", "HOST:PORT"},
        {{"--web.listen-address=:99999"}, "the port is not a number from 0 to 65535", "HOST:PORT"},
        {{"--web.listen-address=:1", "--web.listen-address=:1"}, "':1' is given twice", "Remove"},
        {{"--web.telemetry-path=metrics"}, "'metrics' is not a path", "Begin with '/'"},
        {{"--web.telemetry-path=/a b"}, "is not a path", "Begin with '/'"},
        {{"--web.telemetry-path=/a?b"}, "is not a path", "Begin with '/'"},
        {{"--web.telemetry-path=/healthz"}, "another page", "/metrics"},
        {{"--web.telemetry-path=/"}, "another page", "/metrics"},
        {{"--log.level=verbose"}, "--log.level: unknown value 'verbose'", "debug, info, warn, error"},
        {{"--log.level=warning"}, "--log.level: unknown value 'warning'", "warn"},
        {{"--log.format=text"}, "--log.format: unknown value 'text'", "logfmt, json"},
        {{"catalog", "--format=xml"}, "--format: unknown value 'xml'", "markdown, json"},
        {{"top", "--interval=5"}, "--interval: '5' is not a duration", "500ms"},
        {{"top", "--interval=1ms"}, "--interval: '1ms' is out of range", "from 100ms to 1h"},
    };
    for (const BadArguments& row : rows) {
        SCOPED_TRACE(row.arguments.back());
        const auto result = parse(row.arguments);
        const auto* end = std::get_if<CommandLineExit>(&result);
        ASSERT_NE(end, nullptr);
        EXPECT_EQ(end->code, exit_usage);
        EXPECT_THAT(end->output, AllOf(StartsWith("pangolin_exporter: "), HasSubstr(row.what),
                                       HasSubstr("(HINT: "), HasSubstr(row.hint), EndsWith(".)\n")));
        EXPECT_EQ(std::ranges::count(end->output, '\n'), 1);
    }
}

TEST(ListenAddress, ParsesAndWrites) {
    struct Row {
        const char* text;
        ListenAddress expected;
    };
    const Row rows[] = {
        {":9464", {"", 9464}},
        {"0.0.0.0:80", {"0.0.0.0", 80}},
        {"[::1]:9464", {"::1", 9464}},
        {"[::]:1", {"::", 1}},
        {"localhost:9464", {"localhost", 9464}},
        {"a-b.example:65535", {"a-b.example", 65535}},
        {"127.0.0.1:0", {"127.0.0.1", 0}},
    };
    for (const Row& row : rows) {
        const auto address = ListenAddress::parse(row.text);
        ASSERT_TRUE(address) << row.text;
        EXPECT_EQ(*address, row.expected) << row.text;
        EXPECT_EQ(address->to_string(), row.text);
    }
}

TEST(ListenAddress, ThePortMayBeGivenElsewhere) {
    for (const char* text : {"::1", "[::1]", "[::1]:7"})
        EXPECT_EQ(ListenAddress::parse(text, 7).value(), (ListenAddress{"::1", 7})) << text;
    for (const char* text : {"::", "0.0.0.0", "localhost"})
        EXPECT_EQ(ListenAddress::parse(text, 7).value().port, 7) << text;
    EXPECT_EQ(ListenAddress::parse("::1", 7).value().to_string(), "[::1]:7");
    EXPECT_FALSE(ListenAddress::parse("", 7));
}

TEST(ListenAddress, RefusesTheRest) {
    for (const char* text : {"",         "9464",          "localhost",     "::1",           "[::1]",
                             "[::1",     "[::1]9464",     "[localhost]:1", "[127.0.0.1]:1", "[]:1",
                             "1.2.3:80", "1.2.3.4.5:80",  "256.0.0.1:80",  "host:",         "host:-1",
                             "host:+1",  "host:1x",       "host:65536",    "host: 1",       " host:1",
                             "ho st:1",  "http://host:1", "host:1/",       "::1:9464x",     "a:b:1",
                             "host:\n1"}) {
        const auto address = ListenAddress::parse(text);
        ASSERT_FALSE(address) << text;
        EXPECT_THAT(address.error().hint, HasSubstr("HOST:PORT"));
    }
}

}  // namespace
}  // namespace pangolin
