// What a database has of what is read from it: Pangolin's tables and columns differ between its versions.
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "userspace/metadata/database.h"
#include "userspace/metadata/rows.h"

namespace pangolin {

// The tables that are read.
inline constexpr std::array<std::string_view, 14> pangolin_tables_read{
    "sites",   "exitNodes",        "resources",   "targets",       "targetHealthCheck", "clients",    "user",
    "session", "resourceSessions", "newtSession", "clientSession", "certificates",      "blueprints", "newt"};

// Columns by table. A table that the database does not have, or does not show, has none.
class Schema {
  public:
    void add(std::string_view table, std::string column) {
        columns_.try_emplace(std::string(table)).first->second.insert(std::move(column));
    }
    bool has(std::string_view table, std::string_view column) const {
        const auto found = columns_.find(table);
        return found != columns_.end() && found->second.contains(column);
    }
    bool has(std::string_view table) const { return columns_.contains(table); }

  private:
    std::map<std::string, std::set<std::string, std::less<>>, std::less<>> columns_;
};

// An error when the sites cannot be read from such a database. `name` is the database's in it, `hint` what to
// do beside using another source. The rest of the schema may lack anything.
Result<void> check_schema(Database& database, const Schema& schema, std::string_view name,
                          std::string_view hint);

// Reads all tables in pages of at most 100 rows, one short statement each, so that nobody waits for more than
// a moment and what is read may change in between.
Result<Rows> read_rows(Database& database, const Schema& schema);

}  // namespace pangolin
