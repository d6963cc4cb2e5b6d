#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

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
    PostgresSiteSource(std::string connection_string, SiteLabel label)
        : options_(parse_postgres_options(connection_string)), reader_(label) {}

    std::string_view name() const override { return "postgres"; }

    Result<SiteDirectory> read() override {
        if (!options_)
            return std::unexpected(options_.error());
        const bool kept = connection_.has_value();
        auto rows = read_all();
        // A server that was restarted since the last reading has closed the connection.
        if (!rows && kept && connection_ && connection_->is_broken()) {
            connection_.reset();
            rows = read_all();
        }
        if (!rows) {
            connection_.reset();
            return std::unexpected(rows.error());
        }
        return reader_.read(*rows);
    }

  private:
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
        return read_rows(*connection_, schema);
    }

    Result<PostgresOptions> options_;
    DirectoryReader reader_;
    std::optional<PostgresConnection> connection_;
};

}  // namespace

std::unique_ptr<SiteSource> make_postgres_site_source(std::string connection_string, SiteLabel label) {
    return std::make_unique<PostgresSiteSource>(std::move(connection_string), label);
}

}  // namespace pangolin
