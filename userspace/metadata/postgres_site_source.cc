#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "userspace/metadata/database_reading.h"
#include "userspace/metadata/directory_reader.h"
#include "userspace/metadata/postgres_connection.h"
#include "userspace/metadata/schema.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {
namespace {

// The columns of the tables that a query without schema names would read, as far as this role may.
std::string select_schema() {
    return fmt::format(R"(SELECT t.name, a.attname
FROM (VALUES ('{}')) AS t (name)
JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass('"' || t.name || '"')
WHERE a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT'))",
                       fmt::join(pangolin_tables_read, "'), ('"));
}

class PostgresSiteSource final : public SiteSource {
  public:
    PostgresSiteSource(const std::string& connection_string, SiteLabel label,
                       std::shared_ptr<DatabaseReading> also)
        : options_(parse_postgres_options(connection_string)), reader_(label), also_(std::move(also)) {}

    std::string_view name() const override { return "postgres"; }

    Result<SiteDirectory> read() override {
        auto rows = read_patiently();
        if (rows)
            return reader_.read(*rows);
        if (also_)
            also_->unavailable(rows.error());
        return std::unexpected(rows.error());
    }

  private:
    Result<Rows> read_patiently() {
        if (!options_)
            return std::unexpected(options_.error());
        const bool kept = connection_.has_value();
        auto rows = read_all();
        // A server that was restarted since the last reading has closed the connection.
        if (!rows && kept && connection_ && connection_->is_broken()) {
            connection_.reset();
            rows = read_all();
        }
        if (!rows)
            connection_.reset();
        return rows;
    }

    Result<Rows> read_all() {
        if (!connection_) {
            auto opened = PostgresConnection::open(*options_);
            if (!opened)
                return std::unexpected(opened.error());
            connection_.emplace(std::move(*opened));
        }
        // Read each time: there is no cheaper way to notice that Pangolin has been upgraded.
        Schema schema;
        if (auto result = connection_->query(select_schema(), std::nullopt,
                                             [&](const DatabaseRow& row) {
                                                 schema.add(row.text(0).value_or(""),
                                                            row.text(1).value_or(""));
                                             });
            !result)
            return std::unexpected(result.error());
        if (auto usable = check_schema(
                *connection_, schema, "the " + options_->name,
                "Check that this is Pangolin's database and that the exporter's role may SELECT,");
            !usable)
            return std::unexpected(usable.error());
        auto rows = read_rows(*connection_, schema);
        if (rows && also_ && !also_->read(*connection_, schema))
            connection_.reset();
        return rows;
    }

    Result<PostgresOptions> options_;
    DirectoryReader reader_;
    std::shared_ptr<DatabaseReading> also_;
    std::optional<PostgresConnection> connection_;
};

}  // namespace

std::unique_ptr<SiteSource> make_postgres_site_source(const std::string& connection_string, SiteLabel label,
                                                      std::shared_ptr<DatabaseReading> also) {
    return std::make_unique<PostgresSiteSource>(connection_string, label, std::move(also));
}

}  // namespace pangolin
