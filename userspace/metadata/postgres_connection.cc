#include "userspace/metadata/postgres_connection.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/base/number.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

// Beyond the server's own statement_timeout: for servers that are silent.
constexpr auto query_time_limit = std::chrono::seconds(5);

struct ResultDeleter {
    void operator()(PGresult* result) const { PQclear(result); }
};
using QueryResult = std::unique_ptr<PGresult, ResultDeleter>;

class PostgresRow final : public DatabaseRow {
  public:
    PostgresRow(const PGresult* result, int row) : result_(result), row_(row) {}

    std::optional<std::string> text(int column) const override {
        if (PQgetisnull(result_, row_, column) != 0)
            return std::nullopt;
        return std::string(PQgetvalue(result_, row_, column),
                           static_cast<std::size_t>(PQgetlength(result_, row_, column)));
    }

    std::optional<std::int64_t> integer(int column) const override {
        const auto value = text(column);
        if (!value)
            return std::nullopt;
        if (*value == "t" || *value == "f")
            return *value == "t" ? 1 : 0;
        if (const auto number = parse_number<std::int64_t>(*value))
            return number;
        const auto real = parse_number<double>(*value);
        constexpr double greatest = 9e18;
        return real && *real > -greatest && *real < greatest ? std::optional(static_cast<std::int64_t>(*real))
                                                             : std::nullopt;
    }

  private:
    const PGresult* result_;
    int row_;
};

// libpq writes a line for each address that it tried.
std::string in_one_line(std::string_view text) {
    std::string line;
    for (const char character : text) {
        if (character != '\n')
            line += character;
        else if (!line.empty() && !line.ends_with("; "))
            line += "; ";
    }
    while (line.ends_with(' ') || line.ends_with(';'))
        line.pop_back();
    return escaped(line);
}

// What a failure to connect means for the operator; libpq has no codes for it.
std::string connection_hint(std::string_view message) {
    const auto has = [&](std::string_view part) { return message.find(part) != std::string_view::npos; };
    if (has("could not translate host name"))
        return "Such a name is often known in Docker's network only: set metrics.metadata.postgres to a "
               "connection string with the container's address, or with 127.0.0.1 and a published port.";
    if (has("password") || has("authentication") || has("pg_hba.conf") || has("role \""))
        return "Check the user and the password in metrics.metadata.postgres or in Pangolin's own settings.";
    if (has("unsupported startup parameter"))
        return "This is a connection pooler: name the PostgreSQL server itself in metrics.metadata.postgres.";
    if (has("database \""))
        return "Check the database's name in metrics.metadata.postgres or in Pangolin's own settings.";
    if (has("too many") || has("remaining connection slots"))
        return "The server's connections are used up; the exporter needs one.";
    if (has("SSL") || has("certificate"))
        return "Check sslmode and the certificates in metrics.metadata.postgres.";
    return "Is PostgreSQL running and reachable from here? That of a container often is from Docker's "
           "network "
           "only: use the container's address or a published port in metrics.metadata.postgres.";
}

std::string query_hint(std::string_view code) {
    if (code == "42501")  // insufficient_privilege
        return "Let the exporter's role read: GRANT SELECT ON sites, \"exitNodes\", resources, targets, "
               "\"targetHealthCheck\", clients TO its name.";
    if (code == "57014" || code == "55P03")  // query_canceled, lock_not_available
        return "The exporter does not wait long for a busy database; it tries again.";
    if (code.starts_with("57P"))  // shutting down or starting
        return "The server is restarting; the exporter connects again.";
    return "Check that this is the database of a supported Pangolin.";
}

}  // namespace

Result<PostgresConnection> PostgresConnection::open(const PostgresOptions& options) {
    std::vector<const char*> keywords;
    std::vector<const char*> values;
    for (const auto& [keyword, value] : options.parameters) {
        keywords.push_back(keyword.c_str());
        values.push_back(value.c_str());
    }
    keywords.push_back(nullptr);
    values.push_back(nullptr);
    Connection handle(PQconnectdbParams(keywords.data(), values.data(), 0));
    if (!handle)
        return failure("cannot connect to the " + options.name + ": out of memory", "Free some memory.");
    PostgresConnection connection(std::move(handle), options.name);
    if (connection.is_broken()) {
        Error error = connection.connection_error();
        error.what = fmt::format("cannot connect to the {}: {}", options.name, error.what);
        return std::unexpected(std::move(error));
    }
    PQsetNoticeProcessor(connection.connection_.get(), [](void*, const char*) {}, nullptr);
    return connection;
}

Error PostgresConnection::connection_error() const {
    std::string message = in_one_line(PQerrorMessage(connection_.get()));
    // libpq does not show it; a library underneath might.
    const char* password = PQpass(connection_.get());
    const std::string_view secret = password == nullptr ? "" : password;
    constexpr std::size_t shortest_secret = 4;
    if (secret.size() >= shortest_secret)
        for (auto at = message.find(secret); at != std::string::npos; at = message.find(secret, at))
            message.replace(at, secret.size(), "***");
    std::string hint = connection_hint(message);
    return {std::move(message), std::move(hint), 0};
}

Error PostgresConnection::result_error(const PGresult* result) const {
    const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (code == nullptr) {
        Error error = connection_error();
        error.what = fmt::format("cannot read the {}: {}", name_, error.what);
        return error;
    }
    const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return {fmt::format("cannot read the {}: {}", name_, in_one_line(message == nullptr ? code : message)),
            query_hint(code), 0};
}

Result<void> PostgresConnection::wait_for_result() {
    const auto deadline = Clock::now() + query_time_limit;
    while (PQisBusy(connection_.get()) != 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd descriptor{.fd = PQsocket(connection_.get()), .events = POLLIN, .revents = 0};
        const int ready = left > 0 ? ::poll(&descriptor, 1, static_cast<int>(left)) : 0;
        if (ready == 0)
            return failure(fmt::format("cannot read the {}: it does not answer", name_),
                           "The exporter connects again; look at the server's load and at the network.",
                           ETIMEDOUT);
        if (ready > 0 && PQconsumeInput(connection_.get()) == 0)
            return std::unexpected(result_error(nullptr));
    }
    return {};
}

Result<void> PostgresConnection::query(const std::string& sql, std::optional<std::int64_t> parameter,
                                       const std::function<void(const DatabaseRow&)>& on_row) {
    const std::string text = parameter ? std::to_string(*parameter) : "";
    const std::array<const char*, 1> values{text.c_str()};
    if (PQsendQueryParams(connection_.get(), sql.c_str(), parameter ? 1 : 0, nullptr, values.data(), nullptr,
                          nullptr, 0) == 0)
        return std::unexpected(result_error(nullptr));
    PQsetSingleRowMode(connection_.get());
    Result<void> outcome;
    // A query has a result for each row and one for the end, then null; after a failed one the connection may
    // send more.
    for (;;) {
        if (auto waited = wait_for_result(); !waited)
            return waited;
        const QueryResult result(PQgetResult(connection_.get()));
        if (!result)
            return outcome;
        const ExecStatusType status = PQresultStatus(result.get());
        if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK) {
            if (outcome)
                outcome = std::unexpected(result_error(result.get()));
            continue;
        }
        for (int row = 0; row < PQntuples(result.get()); ++row)
            on_row(PostgresRow(result.get(), row));
    }
}

}  // namespace pangolin
