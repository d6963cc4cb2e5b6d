// A SQLite database as Pangolin writes it, in the schema of a chosen version.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <stdexcept>
#include <string>

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

// The tables that name sites, with the columns around those that are read. `subnet_column` is "subnet" before
// 1.22.0 and "exitNodeSubnet" since.
inline std::string pangolin_tables(const std::string& subnet_column) {
    return R"(
CREATE TABLE "versionMigrations" ("version" text PRIMARY KEY NOT NULL, "executedAt" integer NOT NULL);
INSERT INTO "versionMigrations" VALUES ('1.9.0', 100), ('1.21.2', 300), ('1.10.0', 200);
CREATE TABLE "orgs" ("orgId" text PRIMARY KEY NOT NULL, "name" text NOT NULL);
CREATE TABLE "exitNodes" ("exitNodeId" integer PRIMARY KEY AUTOINCREMENT NOT NULL, "name" text NOT NULL,
    "address" text NOT NULL, "endpoint" text NOT NULL, "publicKey" text NOT NULL, "listenPort" integer NOT NULL,
    "reachableAt" text, "region" text);
CREATE TABLE "sites" ("siteId" integer PRIMARY KEY AUTOINCREMENT NOT NULL, "orgId" text NOT NULL, "niceId" text,
    "exitNode" integer, "name" text, "pubKey" text, ")" +
           subnet_column + R"(" text, "bytesIn" integer DEFAULT 0, "bytesOut" integer DEFAULT 0,
    "lastBandwidthUpdate" text, "type" text, "online" integer DEFAULT 0 NOT NULL);
INSERT INTO "exitNodes" VALUES (1, 'main', '100.89.128.1/24', 'vpn.example.com',
    'hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=', 51820, 'http://gerbil:3004', 'eu');
)";
}

// Columns siteId, orgId, niceId, exitNode, name, pubKey, subnet, type, online.
inline std::string pangolin_site(const std::string& subnet_column, const std::string& values) {
    return R"(INSERT INTO "sites" ("siteId","orgId","niceId","exitNode","name","pubKey",")" + subnet_column +
           R"(","type","online") VALUES ()" + values + ");";
}

}  // namespace pangolin
