// Pangolin's database, in the schema of a chosen version, as SQLite or PostgreSQL statements.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/pangolin_columns.h"

namespace pangolin {

// A second program's read-write connection. It never waits for locks: a lock that is held shows as an error.
class DatabaseWriter {
  public:
    explicit DatabaseWriter(const std::string& path) {
        sqlite3* handle = nullptr;
        const int result = sqlite3_open(path.c_str(), &handle);
        database_.reset(handle);
        if (result != SQLITE_OK)
            throw std::runtime_error("cannot open " + path);
    }

    // SQLite's result code of statements that return no rows worth having.
    int run(const std::string& sql) {
        return sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
    }

    void must(const std::string& sql) {
        if (run(sql) != SQLITE_OK)
            throw std::runtime_error(std::string(sqlite3_errmsg(database_.get())) + " in: " + sql);
    }

    void close() { database_.reset(); }

  private:
    struct Closer {
        void operator()(sqlite3* database) const { sqlite3_close(database); }
    };
    std::unique_ptr<sqlite3, Closer> database_;
};

// Where Pangolin changed what is read.
inline constexpr std::array<const char*, 7> pangolin_versions{"1.9.0",  "1.12.0", "1.14.0", "1.17.0",
                                                              "1.18.0", "1.19.0", "1.22.0"};

enum class Dialect { sqlite, postgres };

// Columns and values of one row; values are SQL ('text', 7, TRUE, NULL).
using SqlRow = std::vector<std::pair<std::string, std::string>>;

class PangolinSchema {
  public:
    explicit PangolinSchema(std::string_view version, Dialect dialect = Dialect::sqlite)
        : version_(version), dialect_(dialect) {
        for (const PangolinColumn& column : pangolin_columns)
            if (version == column.version)
                tables_[column.table].push_back(column);
        if (tables_.empty())
            throw std::runtime_error("no schema of Pangolin " + version_);
    }

    // CREATE TABLE statements. Not `strict`: any column but the primary key may be NULL.
    std::string tables(bool strict = true) const {
        std::string sql;
        for (const auto& [table, columns] : tables_) {
            std::vector<std::string> definitions;
            for (const PangolinColumn& column : columns) {
                std::string text = dialect_ == Dialect::sqlite ? column.sqlite : column.postgres;
                if (!strict && text.ends_with(" NOT NULL") && text.find("PRIMARY KEY") == std::string::npos)
                    text.resize(text.size() - std::string_view(" NOT NULL").size());
                definitions.push_back(std::move(text));
            }
            sql += fmt::format("CREATE TABLE \"{}\" ({});\n", table, fmt::join(definitions, ", "));
        }
        return sql;
    }

    bool has(const std::string& table) const { return tables_.contains(table); }
    bool has(const std::string& table, const std::string& column) const {
        const auto found = tables_.find(table);
        return found != tables_.end() &&
               std::ranges::any_of(found->second, [&](const PangolinColumn& c) { return column == c.name; });
    }

    // Columns that this version does not have are left out, and so is the row of such a table.
    std::string insert(const std::string& table, const SqlRow& row) const {
        if (!has(table))
            return "";
        std::vector<std::string> names;
        std::vector<std::string> values;
        for (const auto& [name, value] : row) {
            if (!has(table, name))
                continue;
            names.push_back('"' + name + '"');
            values.push_back(value);
        }
        return fmt::format("INSERT INTO \"{}\" ({}) VALUES ({});\n", table, fmt::join(names, ", "),
                           fmt::join(values, ", "));
    }

    // "subnet" before 1.22.0.
    std::string subnet_column() const { return has("sites", "exitNodeSubnet") ? "exitNodeSubnet" : "subnet"; }

    // Values of siteId, orgId, niceId, exitNode, name, pubKey, the subnet, type, online.
    std::string site(const std::string& values) const {
        return R"(INSERT INTO "sites" ("siteId","orgId","niceId","exitNode","name","pubKey",")" +
               subnet_column() + R"(","type","online") VALUES ()" + values + ");\n";
    }

    // The version and exit node 1.
    std::string beginning() const {
        return insert("versionMigrations", {{"version", "'1.0.0'"}, {"executedAt", "100"}}) +
               insert("versionMigrations",
                      {{"version", "'" + version_ + "'"}, {"executedAt", "1790000000000"}}) +
               insert("exitNodes", {{"exitNodeId", "1"},
                                    {"name", "'main'"},
                                    {"address", "'100.89.128.1/24'"},
                                    {"endpoint", "'vpn.example.com'"},
                                    {"publicKey", "'hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo='"},
                                    {"listenPort", "51820"},
                                    {"reachableAt", "'http://gerbil:3004'"},
                                    {"region", "'eu'"}});
    }

  private:
    std::string version_;
    Dialect dialect_;
    std::map<std::string, std::vector<PangolinColumn>> tables_;
};

}  // namespace pangolin
