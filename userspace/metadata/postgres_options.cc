#include "userspace/metadata/postgres_options.h"

#include <fmt/format.h>
#include <libpq-fe.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string_view>

#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using Parameters = std::map<std::string, std::string, std::less<>>;

struct OptionsDeleter {
    void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using OptionList = std::unique_ptr<PQconninfoOption, OptionsDeleter>;

constexpr const char* string_hint =
    "Write it as in 'postgresql://USER:PASSWORD@HOST:5432/DATABASE', with special characters of the password "
    "percent-encoded.";

// The session's own limits; a startup parameter and no SET, so that behind a connection pooler they cannot
// outlive this session in another program's.
constexpr std::string_view session_options =
    "-c default_transaction_read_only=on -c statement_timeout=2000 -c lock_timeout=500";

// Used where the connection string does not say otherwise. Seconds, but tcp_user_timeout: milliseconds.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> defaults{
    {{"connect_timeout", "3"},
     {"keepalives_idle", "30"},
     {"keepalives_interval", "5"},
     {"keepalives_count", "3"},
     {"tcp_user_timeout", "5000"}}};

bool is_libpq_keyword(std::string_view word) {
    const OptionList known(PQconndefaults());
    for (const PQconninfoOption* option = known.get(); option != nullptr && option->keyword != nullptr;
         ++option)
        if (word == option->keyword)
            return true;
    return false;
}

// One parameter of a URI as libpq takes it; empty: none.
std::string translated(std::string_view parameter) {
    const std::size_t equals = parameter.find('=');
    const std::string_view key = parameter.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? "" : parameter.substr(equals + 1);
    // Left for libpq to complain about: the "?" may have been meant as part of the password.
    if (equals == std::string_view::npos || parameter.find('@') != std::string_view::npos)
        return std::string(key);
    if (key == "sslmode" && value == "no-verify")
        return "sslmode=require";
    // libpq itself knows ssl=true.
    if (key == "ssl")
        return value == "true" || value == "1" ? "sslmode=require" : "";
    return is_libpq_keyword(key) ? std::string(parameter) : "";
}

bool is_uri(std::string_view text) {
    return text.starts_with("postgresql://") || text.starts_with("postgres://");
}

std::string libpq_string(const std::string& text) {
    // As libpq does it: a user and password end at the first "@" that no "/" precedes, and may hold a "?".
    const std::size_t authority = text.find("://") + 3;
    const std::size_t special = text.find_first_of("@/", authority);
    const bool has_user = special != std::string::npos && text[special] == '@';
    const std::size_t question = text.find('?', has_user ? special : authority);
    if (!is_uri(text) || question == std::string::npos)
        return text;
    std::string result = text.substr(0, question);
    char separator = '?';
    for (std::string_view rest = std::string_view(text).substr(question + 1); !rest.empty();) {
        const std::size_t end = std::min(rest.find('&'), rest.size());
        if (const std::string parameter = translated(rest.substr(0, end)); !parameter.empty()) {
            result += separator + parameter;
            separator = '&';
        }
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return result;
}

// What libpq says, up to where it begins to quote from the string.
std::string reason_without_quotation(const char* message) {
    std::string_view text = message == nullptr ? "" : message;
    text = text.substr(0, std::min(text.find('"'), text.find('\n')));
    while (text.ends_with(' ') || text.ends_with(':'))
        text.remove_suffix(1);
    return escaped(text);
}

Result<Parameters> parse(const std::string& text) {
    if (text.find('\0') != std::string::npos)
        return failure("the connection string of Pangolin's PostgreSQL database contains a NUL", string_hint);
    char* message = nullptr;
    const OptionList options(PQconninfoParse(libpq_string(text).c_str(), &message));
    const std::unique_ptr<char, void (*)(void*)> owned_message(message, PQfreemem);
    if (!options)
        return failure(
            fmt::format("the connection string of Pangolin's PostgreSQL database cannot be used: {}",
                        reason_without_quotation(message)),
            string_hint);
    Parameters parameters;
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option)
        if (option->val != nullptr && option->val[0] != '\0')
            parameters.emplace(option->keyword, option->val);
    return parameters;
}

std::string value_of(const Parameters& parameters, std::string_view key) {
    const auto found = parameters.find(key);
    return found == parameters.end() ? std::string() : found->second;
}

// False when a special character of the password was not encoded and made parts of it host, port or database,
// which messages show.
bool is_plausible(const Parameters& parameters) {
    return value_of(parameters, "port").find_first_not_of("0123456789,") == std::string::npos &&
           value_of(parameters, "host").find('@') == std::string::npos &&
           value_of(parameters, "dbname").find_first_of("@:/") == std::string::npos;
}

std::string name_of(const Parameters& parameters) {
    const auto value = [&](std::string_view key) { return value_of(parameters, key); };
    std::string host = value("host").empty() ? value("hostaddr") : value("host");
    if (host.empty())
        host = "this host";
    else if (!value("port").empty())
        host += ":" + value("port");
    const std::string database = value("dbname").empty() ? value("user") : value("dbname");
    return "PostgreSQL database " + (database.empty() ? "" : escaped(database) + " ") + "on " + escaped(host);
}

}  // namespace

Result<PostgresOptions> parse_postgres_options(const std::string& connection_string) {
    auto parsed = parse(connection_string);
    if (!parsed)
        return std::unexpected(parsed.error());
    if (!is_plausible(*parsed))
        return failure(
            "the connection string of Pangolin's PostgreSQL database has an impossible host, port or "
            "database",
            string_hint);
    PostgresOptions options;
    options.name = name_of(*parsed);
    for (const auto& [key, value] : defaults)
        parsed->try_emplace(std::string(key), value);
    (*parsed)["application_name"] = "pangolin_exporter";
    (*parsed)["client_encoding"] = "UTF8";
    std::string& session = (*parsed)["options"];
    session = session.empty() ? std::string(session_options) : fmt::format("{} {}", session, session_options);
    options.parameters.assign(parsed->begin(), parsed->end());
    return options;
}

}  // namespace pangolin
