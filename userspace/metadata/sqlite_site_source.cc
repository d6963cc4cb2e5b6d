#include <fmt/format.h>

#include <utility>

#include "userspace/metadata/database_reading.h"
#include "userspace/metadata/directory_reader.h"
#include "userspace/metadata/schema.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/sqlite_connection.h"

namespace pangolin {
namespace {

class SqliteSiteSource final : public SiteSource {
  public:
    SqliteSiteSource(std::string path, SiteLabel label, std::shared_ptr<DatabaseReading> also)
        : path_(std::move(path)), reader_(label), also_(std::move(also)) {}

    std::string_view name() const override { return "sqlite"; }

    Result<SiteDirectory> read() override {
        auto rows = read_rows_and_more();
        if (!rows || write_ahead_log_)
            connection_.reset();
        if (rows)
            return reader_.read(*rows);
        if (also_)
            also_->unavailable(rows.error());
        return std::unexpected(rows.error());
    }

  private:
    Result<Rows> read_rows_and_more() {
        if (connection_ && !connection_->is_current())
            connection_.reset();
        if (!connection_) {
            auto opened = SqliteConnection::open(path_);
            if (!opened)
                return std::unexpected(opened.error());
            connection_.emplace(std::move(*opened));
            schema_version_.reset();
        }
        auto rows = read_all(*connection_);
        if (rows && also_ && !also_->read(*connection_, schema_))
            connection_.reset();
        return rows;
    }

    Result<Rows> read_all(SqliteConnection& connection) {
        if (auto updated = update_schema(connection); !updated)
            return std::unexpected(updated.error());
        return read_rows(connection, schema_);
    }

    Result<void> update_schema(SqliteConnection& connection) {
        std::optional<std::int64_t> version;
        if (auto result = connection.query("PRAGMA schema_version", std::nullopt,
                                           [&](const DatabaseRow& row) { version = row.integer(0); });
            !result)
            return result;
        if (auto mode = read_journal_mode(connection); !mode)
            return mode;
        if (version && version == schema_version_)
            return {};
        Schema schema;
        for (const std::string_view table : pangolin_tables_read)
            if (auto result = connection.query(
                    fmt::format("PRAGMA table_info(\"{}\")", table), std::nullopt,
                    [&](const DatabaseRow& row) { schema.add(table, row.text(1).value_or("")); });
                !result)
                return result;
        if (auto usable = check_schema(connection, schema, path_, "Check that this is Pangolin's database,");
            !usable)
            return usable;
        schema_ = std::move(schema);
        schema_version_ = version;
        return {};
    }

    // A connection that is kept open in WAL mode would stop Pangolin's last checkpoint when it ends, and a
    // copy of db.sqlite made then would lack what is still in the log. So there it is closed after each read.
    Result<void> read_journal_mode(SqliteConnection& connection) {
        return connection.query("PRAGMA journal_mode", std::nullopt,
                                [&](const DatabaseRow& row) { write_ahead_log_ = row.text(0) == "wal"; });
    }

    std::string path_;
    DirectoryReader reader_;
    std::shared_ptr<DatabaseReading> also_;
    std::optional<SqliteConnection> connection_;
    Schema schema_;
    std::optional<std::int64_t> schema_version_;
    bool write_ahead_log_ = false;
};

}  // namespace

std::unique_ptr<SiteSource> make_sqlite_site_source(std::string path, SiteLabel label,
                                                    std::shared_ptr<DatabaseReading> also) {
    return std::make_unique<SqliteSiteSource>(std::move(path), label, std::move(also));
}

}  // namespace pangolin
