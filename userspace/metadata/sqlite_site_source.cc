#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/site_rows.h"
#include "userspace/metadata/sqlite_connection.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

constexpr std::string_view supported_versions = "1.9 to 1.22";
// Rows of one SELECT, so that the database is locked for well under a millisecond at a time.
constexpr std::int64_t page_size = 500;

using Columns = std::set<std::string>;

// What this database has of what can be read. Pangolin's columns differ between its versions.
struct Schema {
    Columns sites;
    Columns exit_nodes;
};

// An expression for the SELECT list: the column, or NULL where this version has none.
std::string column_or_null(std::string_view table, const Columns& columns, const std::string& column) {
    return columns.contains(column) ? fmt::format("{}.\"{}\"", table, column) : "NULL";
}

std::string select_sites(const Schema& schema) {
    const auto site = [&](const std::string& column) { return column_or_null("s", schema.sites, column); };
    const bool joined = schema.sites.contains("exitNode") && schema.exit_nodes.contains("exitNodeId");
    const Columns& exit_nodes = joined ? schema.exit_nodes : Columns{};
    const auto exit_node = [&](const std::string& column) { return column_or_null("e", exit_nodes, column); };
    const std::array<std::string, 11> list{
        site("siteId"),
        site("niceId"),
        site("name"),
        site("orgId"),
        site("type"),
        site("pubKey"),
        // Renamed in 1.22.0.
        site(schema.sites.contains("exitNodeSubnet") ? "exitNodeSubnet" : "subnet"),
        site("online"),
        exit_node("name"),
        exit_node("region"),
        exit_node("publicKey"),
    };
    return fmt::format(R"(SELECT {} FROM sites s{} WHERE s."siteId" > ?1 ORDER BY s."siteId" LIMIT {})",
                       fmt::join(list, ", "),
                       joined ? R"( LEFT JOIN "exitNodes" e ON e."exitNodeId" = s."exitNode")" : "",
                       page_size);
}

// Copies only: the database is locked until the last row.
SiteRow copy_row(const SqliteRow& row) {
    SiteRow copy;
    int column = 0;
    copy.site_id = row.integer(column++).value_or(0);
    for (auto field : {&SiteRow::nice_id, &SiteRow::name, &SiteRow::organisation, &SiteRow::type,
                       &SiteRow::public_key, &SiteRow::subnet})
        copy.*field = row.text(column++);
    copy.online = row.integer(column++);
    for (auto field : {&SiteRow::exit_node, &SiteRow::region, &SiteRow::exit_node_public_key})
        copy.*field = row.text(column++);
    return copy;
}

class SqliteSiteSource final : public SiteSource {
  public:
    SqliteSiteSource(std::string path, SiteLabel label) : path_(std::move(path)), reader_(label) {}

    std::string_view name() const override { return "sqlite"; }

    Result<SiteDirectory> read() override {
        if (connection_ && !connection_->is_current())
            connection_.reset();
        if (!connection_) {
            auto opened = SqliteConnection::open(path_);
            if (!opened)
                return std::unexpected(opened.error());
            connection_.emplace(std::move(*opened));
            schema_version_.reset();
        }
        auto rows = read_rows(*connection_);
        if (!rows || write_ahead_log_)
            connection_.reset();
        if (!rows)
            return std::unexpected(rows.error());
        return reader_.read(*rows);
    }

  private:
    Result<std::vector<SiteRow>> read_rows(SqliteConnection& connection) {
        if (auto updated = update_schema(connection); !updated)
            return std::unexpected(updated.error());
        const std::string sql = select_sites(schema_);
        std::vector<SiteRow> rows;
        for (std::int64_t last = std::numeric_limits<std::int64_t>::min();;) {
            const std::size_t before = rows.size();
            if (auto page =
                    connection.query(sql, last, [&](const SqliteRow& row) { rows.push_back(copy_row(row)); });
                !page)
                return std::unexpected(page.error());
            const bool full = rows.size() - before == page_size;
            // An id that does not grow (a siteId that is no number) would be read again for ever.
            if (!full || rows.back().site_id <= last)
                return rows;
            last = rows.back().site_id;
        }
    }

    Result<void> update_schema(SqliteConnection& connection) {
        std::optional<std::int64_t> version;
        if (auto result = connection.query("PRAGMA schema_version", std::nullopt,
                                           [&](const SqliteRow& row) { version = row.integer(0); });
            !result)
            return result;
        if (auto mode = read_journal_mode(connection); !mode)
            return mode;
        if (version && version == schema_version_)
            return {};
        Schema schema;
        for (const auto& [table, columns] :
             {std::pair("sites", &schema.sites), {"exitNodes", &schema.exit_nodes}})
            if (auto result = read_columns(connection, table, *columns); !result)
                return result;
        if (auto usable = check(connection, schema); !usable)
            return usable;
        schema_ = std::move(schema);
        schema_version_ = version;
        return {};
    }

    // A connection that is kept open in WAL mode would stop Pangolin's last checkpoint when it ends, and a
    // copy of db.sqlite made then would lack what is still in the log. So there it is closed after each read.
    Result<void> read_journal_mode(SqliteConnection& connection) {
        return connection.query("PRAGMA journal_mode", std::nullopt,
                                [&](const SqliteRow& row) { write_ahead_log_ = row.text(0) == "wal"; });
    }

    Result<void> read_columns(SqliteConnection& connection, std::string_view table, Columns& columns) {
        return connection.query(fmt::format("PRAGMA table_info(\"{}\")", table), std::nullopt,
                                [&](const SqliteRow& row) { columns.insert(row.text(1).value_or("")); });
    }

    Result<void> check(SqliteConnection& connection, const Schema& schema) {
        std::vector<std::string> missing;
        if (schema.sites.empty()) {
            missing.emplace_back("table sites");
        } else {
            for (const char* required : {"siteId", "orgId", "niceId", "name"})
                if (!schema.sites.contains(required))
                    missing.push_back(fmt::format("column sites.{}", required));
            if (!schema.sites.contains("exitNodeSubnet") && !schema.sites.contains("subnet"))
                missing.emplace_back("column sites.exitNodeSubnet (sites.subnet before 1.22)");
        }
        if (missing.empty())
            return {};
        return failure(fmt::format("cannot use {}: it lacks {}{}", path_, fmt::join(missing, ", "),
                                   pangolin_version(connection)),
                       fmt::format("Pangolin {} is supported. Check that this is Pangolin's database, or use "
                                   "metrics.metadata.sites_file.",
                                   supported_versions));
    }

    // " (made by Pangolin 1.23.0)" where the database says so; of no use but in an error.
    std::string pangolin_version(SqliteConnection& connection) {
        std::optional<std::string> version;
        const auto result =
            connection.query("SELECT version FROM \"versionMigrations\" ORDER BY \"executedAt\" DESC LIMIT 1",
                             std::nullopt, [&](const SqliteRow& row) { version = row.text(0); });
        return result && version ? fmt::format(" (made by Pangolin {})", in_quotes(*version)) : "";
    }

    std::string path_;
    SiteRowReader reader_;
    std::optional<SqliteConnection> connection_;
    Schema schema_;
    std::optional<std::int64_t> schema_version_;
    bool write_ahead_log_ = false;
};

}  // namespace

std::unique_ptr<SiteSource> make_sqlite_site_source(std::string path, SiteLabel label) {
    return std::make_unique<SqliteSiteSource>(std::move(path), label);
}

}  // namespace pangolin
