#include "userspace/metadata/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

constexpr std::string_view supported_versions = "1.9 to 1.22";
// Rows of one SELECT, so that SQLite's file is locked for some tenths of a millisecond at a time.
constexpr std::int64_t page_size = 100;

// Where one member of a row comes from.
template <class Row>
struct Column {
    // The first that the table has; a column that was renamed has several.
    std::vector<std::string_view> names;
    std::variant<std::optional<std::string> Row::*, std::optional<std::int64_t> Row::*> member;
    // Of the exit node that the row names in "exitNode".
    bool of_exit_node = false;
};

template <class Row>
struct Table {
    std::string_view name;
    std::string_view id;
    std::vector<Column<Row>> columns;
};

const Table<SiteRow>& site_table() {
    static const Table<SiteRow> table{"sites",
                                      "siteId",
                                      {{{"niceId"}, &SiteRow::nice_id},
                                       {{"name"}, &SiteRow::name},
                                       {{"orgId"}, &SiteRow::organisation},
                                       {{"type"}, &SiteRow::type},
                                       {{"pubKey"}, &SiteRow::public_key},
                                       // Renamed in 1.22.0.
                                       {{"exitNodeSubnet", "subnet"}, &SiteRow::subnet},
                                       {{"listenPort"}, &SiteRow::listen_port},
                                       {{"online"}, &SiteRow::online},
                                       {{"name"}, &SiteRow::exit_node, true},
                                       {{"region"}, &SiteRow::region, true},
                                       {{"publicKey"}, &SiteRow::exit_node_public_key, true}}};
    return table;
}

const Table<ResourceRow>& resource_table() {
    static const Table<ResourceRow> table{"resources",
                                          "resourceId",
                                          {{{"niceId"}, &ResourceRow::nice_id},
                                           {{"name"}, &ResourceRow::name},
                                           {{"orgId"}, &ResourceRow::organisation},
                                           {{"fullDomain"}, &ResourceRow::domain},
                                           // Since 1.19.0; the two others until then.
                                           {{"mode"}, &ResourceRow::mode},
                                           {{"http"}, &ResourceRow::http},
                                           {{"protocol"}, &ResourceRow::protocol},
                                           {{"ssl"}, &ResourceRow::ssl},
                                           {{"enabled"}, &ResourceRow::enabled},
                                           {{"proxyPort"}, &ResourceRow::proxy_port}}};
    return table;
}

const Table<TargetRow>& target_table() {
    static const Table<TargetRow> table{"targets",
                                        "targetId",
                                        {{{"resourceId"}, &TargetRow::resource_id},
                                         {{"siteId"}, &TargetRow::site_id},
                                         {{"ip"}, &TargetRow::ip},
                                         {{"port"}, &TargetRow::port},
                                         {{"internalPort"}, &TargetRow::internal_port},
                                         {{"method"}, &TargetRow::method},
                                         // Since 1.10.0.
                                         {{"path"}, &TargetRow::path},
                                         {{"pathMatchType"}, &TargetRow::path_match},
                                         {{"enabled"}, &TargetRow::enabled}}};
    return table;
}

// Since 1.11.0.
const Table<HealthCheckRow>& health_check_table() {
    static const Table<HealthCheckRow> table{"targetHealthCheck",
                                             "targetHealthCheckId",
                                             {{{"targetId"}, &HealthCheckRow::target_id},
                                              {{"hcEnabled"}, &HealthCheckRow::enabled},
                                              {{"hcHealth"}, &HealthCheckRow::health}}};
    return table;
}

const Table<ClientRow>& client_table() {
    static const Table<ClientRow> table{"clients",
                                        "clientId",
                                        {{{"niceId"}, &ClientRow::nice_id},
                                         {{"name"}, &ClientRow::name},
                                         {{"orgId"}, &ClientRow::organisation},
                                         {{"pubKey"}, &ClientRow::public_key},
                                         // Since 1.22.0, and not the old "subnet".
                                         {{"exitNodeSubnet"}, &ClientRow::tunnel},
                                         {{"subnet"}, &ClientRow::subnet},
                                         {{"publicKey"}, &ClientRow::exit_node_public_key, true}}};
    return table;
}

// A site has one newt at most; its own id is a text, by which pages cannot be read.
const Table<NewtRow>& newt_table() {
    static const Table<NewtRow> table{"newt", "siteId", {{{"id"}, &NewtRow::newt_id}}};
    return table;
}

// An expression for the SELECT list: the column, or NULL where this version has none.
template <class Row>
std::string expression(const Schema& schema, const Table<Row>& table, const Column<Row>& column,
                       bool joined) {
    const std::string_view owner = column.of_exit_node ? "exitNodes" : table.name;
    if (!column.of_exit_node || joined)
        for (const std::string_view name : column.names)
            if (schema.has(owner, name))
                return fmt::format(R"({}."{}")", column.of_exit_node ? "e" : "t", name);
    return "NULL";
}

template <class Row>
std::string select_page(const Schema& schema, const Table<Row>& table) {
    const bool joined = schema.has(table.name, "exitNode") && schema.has("exitNodes", "exitNodeId");
    std::vector<std::string> list{fmt::format(R"(t."{}")", table.id)};
    bool join_needed = false;
    for (const Column<Row>& column : table.columns) {
        list.push_back(expression(schema, table, column, joined));
        join_needed |= column.of_exit_node && joined;
    }
    return fmt::format(
        R"(SELECT {} FROM "{}" t{} WHERE t."{}" > CAST($1 AS BIGINT) ORDER BY t."{}" LIMIT {})",
        fmt::join(list, ", "), table.name,
        join_needed ? R"( LEFT JOIN "exitNodes" e ON e."exitNodeId" = t."exitNode")" : "", table.id, table.id,
        page_size);
}

// Copies only: the database may be locked until the last row.
template <class Row>
Row copy_row(const DatabaseRow& row, const Table<Row>& table) {
    Row copy;
    int index = 0;
    copy.id = row.integer(index++).value_or(0);
    for (const Column<Row>& column : table.columns) {
        if (const auto* text = std::get_if<std::optional<std::string> Row::*>(&column.member))
            copy.*(*text) = row.text(index);
        else
            copy.*(*std::get_if<std::optional<std::int64_t> Row::*>(&column.member)) = row.integer(index);
        ++index;
    }
    return copy;
}

template <class Row>
Result<void> read_table(Database& database, const Schema& schema, const Table<Row>& table,
                        std::vector<Row>& rows) {
    if (!schema.has(table.name, table.id))
        return {};
    const std::string sql = select_page(schema, table);
    for (std::int64_t last = std::numeric_limits<std::int64_t>::min();;) {
        const std::size_t before = rows.size();
        if (auto page = database.query(sql, last,
                                       [&](const DatabaseRow& row) { rows.push_back(copy_row(row, table)); });
            !page)
            return page;
        const bool full = rows.size() - before == page_size;
        // An id that does not grow (one that is no number) would be read again for ever.
        if (!full || rows.back().id <= last)
            return {};
        last = rows.back().id;
    }
}

// " (made by Pangolin 1.23.0)" where the database says so; of no use but in an error.
std::string pangolin_version(Database& database) {
    std::optional<std::string> version;
    const auto result =
        database.query("SELECT version FROM \"versionMigrations\" ORDER BY \"executedAt\" DESC LIMIT 1",
                       std::nullopt, [&](const DatabaseRow& row) { version = row.text(0); });
    return result && version ? fmt::format(" (made by Pangolin {})", in_quotes(*version)) : "";
}

}  // namespace

Result<void> check_schema(Database& database, const Schema& schema, std::string_view name,
                          std::string_view hint) {
    std::vector<std::string> missing;
    if (!schema.has("sites")) {
        missing.emplace_back("table sites");
    } else {
        for (const char* required : {"siteId", "orgId", "niceId", "name"})
            if (!schema.has("sites", required))
                missing.push_back(fmt::format("column sites.{}", required));
        if (!schema.has("sites", "exitNodeSubnet") && !schema.has("sites", "subnet"))
            missing.emplace_back("column sites.exitNodeSubnet (sites.subnet before 1.22)");
    }
    if (missing.empty())
        return {};
    return failure(fmt::format("cannot use {}: it lacks {}{}", name, fmt::join(missing, ", "),
                               pangolin_version(database)),
                   fmt::format("Pangolin {} is supported. {} or use metrics.metadata.sites_file.",
                               supported_versions, hint));
}

Result<Rows> read_rows(Database& database, const Schema& schema) {
    Rows rows;
    // What names other rows comes before them: nothing that is made meanwhile is missed then.
    Result<void> result = read_table(database, schema, health_check_table(), rows.health_checks);
    if (result)
        result = read_table(database, schema, target_table(), rows.targets);
    if (result)
        result = read_table(database, schema, resource_table(), rows.resources);
    if (result)
        result = read_table(database, schema, client_table(), rows.clients);
    if (result)
        result = read_table(database, schema, newt_table(), rows.newts);
    if (result)
        result = read_table(database, schema, site_table(), rows.sites);
    if (!result)
        return std::unexpected(result.error());
    return rows;
}

}  // namespace pangolin
