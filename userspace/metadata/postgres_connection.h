// A read-only session with Pangolin's PostgreSQL database.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>

#include "userspace/metadata/database.h"
#include "userspace/metadata/postgres_options.h"

namespace pangolin {

// Errors name the database and say what to do, and never show the password. A server that does not answer
// costs some seconds, then the connection.
class PostgresConnection final : public Database {
  public:
    // Connects, for at most connect_timeout by address.
    static Result<PostgresConnection> open(const PostgresOptions& options);

    DatabaseKind kind() const override { return DatabaseKind::postgres; }

    // Rows come one by one: those of a large table are never in memory together.
    Result<void> query(const std::string& sql, std::optional<std::int64_t> parameter,
                       const std::function<void(const DatabaseRow&)>& on_row) override;

    // True once the server has gone.
    bool is_broken() const { return PQstatus(connection_.get()) != CONNECTION_OK; }
    const std::string& name() const { return name_; }

  private:
    struct Closer {
        void operator()(PGconn* connection) const { PQfinish(connection); }
    };
    using Connection = std::unique_ptr<PGconn, Closer>;
    PostgresConnection(Connection connection, std::string name)
        : connection_(std::move(connection)), name_(std::move(name)) {}

    Error connection_error() const;
    Error result_error(const PGresult* result) const;
    Result<void> wait_for_result();

    Connection connection_;
    std::string name_;
};

}  // namespace pangolin
