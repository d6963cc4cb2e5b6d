// Pangolin's sessions, certificates and blueprints in databases of each version, SQLite and PostgreSQL.
#include "userspace/accounts/account_monitor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "tests/support/pangolin_database.h"
#include "tests/support/postgres_server.h"
#include "tests/support/scratch_folder.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int no_pause = 0;

using Run = std::function<void(const std::string&)>;

std::int64_t in_an_hour() {
    return (std::chrono::duration_cast<std::chrono::seconds>(
                std::chrono::system_clock::now().time_since_epoch())
                .count() +
            3600) *
           1000;
}

std::string user_session(const PangolinSchema& schema, const char* id, const char* user,
                         std::int64_t expires) {
    return schema.insert("session", {{"id", fmt::format("'{}'", id)},
                                     {"userId", fmt::format("'{}'", user)},
                                     {"expiresAt", std::to_string(expires)},
                                     {"deviceAuthUsed", "FALSE"}});
}

// `proof` is the column that says why.
std::string resource_session(const PangolinSchema& schema, const char* id, const char* proof,
                             const char* value, const char* request_token = "FALSE") {
    return schema.insert("resourceSessions", {{"id", fmt::format("'{}'", id)},
                                              {"resourceId", "1"},
                                              {"expiresAt", std::to_string(in_an_hour())},
                                              {"sessionLength", "3600000"},
                                              {"doNotExtend", "FALSE"},
                                              {"isRequestToken", request_token},
                                              {proof, value}});
}

std::string first_rows(const PangolinSchema& schema) {
    const auto user = [&](const char* id, const char* type) {
        return schema.insert("user", {{"id", fmt::format("'{}'", id)},
                                      {"username", fmt::format("'{}'", id)},
                                      {"type", fmt::format("'{}'", type)}});
    };
    const auto other = [&](const char* table, const char* id, const char* owner_column, const char* owner) {
        return schema.insert(table, {{"id", fmt::format("'{}'", id)},
                                     {owner_column, fmt::format("'{}'", owner)},
                                     {"expiresAt", std::to_string(in_an_hour())}});
    };
    const bool policies = schema.has("resourceSessions", "policyPincodeId");
    return schema.beginning() + user("u1", "internal") + user("u2", "oidc") +
           user_session(schema, "a1", "u1", in_an_hour()) + user_session(schema, "a2", "u1", in_an_hour()) +
           user_session(schema, "b1", "u2", in_an_hour()) + user_session(schema, "old", "u2", 1000) +
           resource_session(schema, "r1", "passwordId", "1") +
           resource_session(schema, "r2", policies ? "policyPincodeId" : "pincodeId", "1") +
           resource_session(schema, "r3", "userSessionId", "'a1'") +
           resource_session(schema, "r4", "accessTokenId", "'t'") +
           resource_session(schema, "r5", "userSessionId", "'a1'", "TRUE") +
           other("newtSession", "n1", "newtId", "newt") + other("newtSession", "n2", "newtId", "newt") +
           other("clientSession", "c1", "olmId", "olm") +
           schema.insert("blueprints", {{"orgId", "'o'"},
                                        {"name", "'before'"},
                                        {"source", "'API'"},
                                        {"createdAt", "1"},
                                        {"succeeded", "TRUE"},
                                        {"contents", "''"}});
}

std::string certificate_row(const PangolinSchema& schema, const char* domain, const char* status,
                            const char* expires) {
    return schema.insert("certificates", {{"domain", domain},
                                          {"wildcard", "TRUE"},
                                          {"status", status},
                                          {"expiresAt", expires},
                                          {"lastRenewalAttempt", "7"},
                                          {"createdAt", "1"},
                                          {"updatedAt", "1"}});
}

AccountCounts counts_of(const AccountMonitor& monitor) {
    Snapshot snapshot;
    monitor.describe(snapshot);
    return snapshot.accounts ? *snapshot.accounts : AccountCounts();
}

// The same story for every database and version; `reading` reads once.
void tell(const PangolinSchema& schema, const Run& run, const std::function<void()>& reading,
          const AccountMonitor& monitor, CertificateMonitor& certificates) {
    run(first_rows(schema));
    reading();
    AccountCounts counts = counts_of(monitor);
    // password (a user, a resource's), oidc, sso, pincode, whitelist, access_token, newt, olm, other
    EXPECT_THAT(counts.active, ElementsAre(2, 1, 1, 1, 0, 1, 1, 1, 0));
    EXPECT_EQ(counts.user_sessions, 3U);
    EXPECT_THAT(counts.issued, Each(0U));

    run("DELETE FROM \"session\" WHERE id = 'a1'; DELETE FROM \"resourceSessions\" WHERE id = 'r3';" +
        resource_session(schema, "r6", "whitelistId", "3") +
        fmt::format("UPDATE \"session\" SET \"expiresAt\" = {} WHERE id = 'b1';", in_an_hour() + 5'000'000) +
        schema.insert("blueprints", {{"orgId", "'o'"},
                                     {"name", "'bad'"},
                                     {"source", "'UI'"},
                                     {"createdAt", "2"},
                                     {"succeeded", "FALSE"},
                                     {"contents", "''"}}) +
        certificate_row(schema, "'example.com'", "'valid'", "2000000000"));
    reading();
    counts = counts_of(monitor);
    EXPECT_THAT(counts.ended, ElementsAre(2, 0, 0));
    EXPECT_THAT(counts.issued, ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 0));
    EXPECT_EQ(counts.refreshed, 1U);
    EXPECT_THAT(counts.active, ElementsAre(2, 1, 0, 1, 1, 1, 1, 1, 0));
    ASSERT_EQ(counts.blueprints.has_value(), schema.has("blueprints"));
    if (counts.blueprints) {
        EXPECT_EQ(counts.blueprints->succeeded, 0U);
        EXPECT_EQ(counts.blueprints->failed, 1U);
    }
    const auto book = certificates.ledger().snapshot().book;
    ASSERT_EQ(book != nullptr, schema.has("certificates"));
    if (book) {
        EXPECT_EQ(book->find("app.example.com")->not_after, 2'000'000'000);
    }

    run(certificate_row(schema, "'failed.example.com'", "'failed'", "NULL"));
    reading();
    if (const auto events = certificates.ledger().snapshot().events) {
        EXPECT_THAT(events->at("failed.example.com"), ElementsAre(0, 0, 0, 1));
    }
}

class AccountMonitorTest : public testing::Test {
  protected:
    static void SetUpTestSuite() { server = PostgresServer::start(); }
    static void TearDownTestSuite() { server.reset(); }

    std::string error() const {
        Snapshot snapshot;
        monitor->describe(snapshot);
        return snapshot.sources.front().error;
    }

    ScratchFolder folder;
    std::shared_ptr<CertificateMonitor> certificates = std::make_shared<CertificateMonitor>("");
    std::shared_ptr<AccountMonitor> monitor = std::make_shared<AccountMonitor>(certificates, no_pause);
    static inline std::unique_ptr<PostgresServer> server;
};

void must_read(SiteSource& source) {
    const auto directory = source.read();
    ASSERT_TRUE(directory) << directory.error().message();
}

TEST_F(AccountMonitorTest, SqliteOfEachVersion) {
    for (const char* version : pangolin_versions) {
        SCOPED_TRACE(version);
        const PangolinSchema schema(version);
        certificates = std::make_shared<CertificateMonitor>("");
        monitor = std::make_shared<AccountMonitor>(certificates, no_pause);
        const std::string path = folder.path(std::string(version) + ".sqlite");
        DatabaseWriter writer(path);
        writer.must(schema.tables());
        const auto source = make_sqlite_site_source(path, SiteLabel::nice_id, monitor);
        tell(
            schema, [&](const std::string& sql) { writer.must(sql); }, [&] { must_read(*source); }, *monitor,
            *certificates);
    }
}

TEST_F(AccountMonitorTest, PostgresOfEachVersion) {
    if (!server)
        GTEST_SKIP() << "PostgreSQL is not installed";
    for (const char* version : pangolin_versions) {
        SCOPED_TRACE(version);
        const PangolinSchema schema(version, Dialect::postgres);
        certificates = std::make_shared<CertificateMonitor>("");
        monitor = std::make_shared<AccountMonitor>(certificates, no_pause);
        server->must("DROP DATABASE IF EXISTS pangolin WITH (FORCE)");
        server->must("CREATE DATABASE pangolin");
        server->must(schema.tables(), "pangolin");
        const auto source =
            make_postgres_site_source(server->connection_string("pangolin"), SiteLabel::nice_id, monitor);
        tell(
            schema, [&](const std::string& sql) { server->must(sql, "pangolin"); },
            [&] { must_read(*source); }, *monitor, *certificates);
    }
}

TEST_F(AccountMonitorTest, ADatabaseThatCannotBeReadPublishesNothing) {
    const PangolinSchema schema("1.22.0");
    const std::string path = folder.path("db.sqlite");
    DatabaseWriter writer(path);
    writer.must(schema.tables() + first_rows(schema) +
                certificate_row(schema, "'a.example'", "'valid'", "5"));
    const auto source = make_sqlite_site_source(path, SiteLabel::nice_id, monitor);
    must_read(*source);
    EXPECT_EQ(counts_of(*monitor).user_sessions, 3U);
    EXPECT_TRUE(certificates->ledger().snapshot().book);
    writer.must("ALTER TABLE \"session\" RENAME TO \"elsewhere\"");
    must_read(*source);
    EXPECT_THAT(error(), HasSubstr("shows no table session"));
    Snapshot snapshot;
    monitor->describe(snapshot);
    EXPECT_FALSE(snapshot.accounts);
    EXPECT_FALSE(certificates->ledger().snapshot().book);
    writer.must("ALTER TABLE \"elsewhere\" RENAME TO \"session\"");
    must_read(*source);
    EXPECT_EQ(error(), "");
    EXPECT_THAT(counts_of(*monitor).ended, Each(0U));
    std::filesystem::remove(path);
    EXPECT_FALSE(source->read());
    EXPECT_THAT(error(), HasSubstr("No such file"));
}

// More than one page, and rowids that are no longer dense.
TEST_F(AccountMonitorTest, ManySessions) {
    const PangolinSchema schema("1.22.0");
    const std::string path = folder.path("db.sqlite");
    DatabaseWriter writer(path);
    std::string sql = schema.tables() + "BEGIN;" + schema.beginning();
    constexpr int sessions = 3001;
    for (int i = 0; i < sessions; ++i)
        sql += user_session(schema, fmt::format("s{}", i).c_str(), fmt::format("u{}", i % 700).c_str(),
                            in_an_hour());
    writer.must(sql + "COMMIT;");
    const auto source = make_sqlite_site_source(path, SiteLabel::nice_id, monitor);
    must_read(*source);
    EXPECT_EQ(counts_of(*monitor).user_sessions, sessions);
    EXPECT_EQ(counts_of(*monitor).active.back(), 700U);
    writer.must("DELETE FROM \"session\" WHERE rowid % 3 = 0; VACUUM");
    must_read(*source);
    EXPECT_EQ(counts_of(*monitor).user_sessions, sessions - sessions / 3);
    EXPECT_THAT(counts_of(*monitor).issued, Each(0U));
    const auto& ended = counts_of(*monitor).ended;
    EXPECT_EQ(ended[0] + ended[1] + ended[2], sessions / 3);
}

struct CloseConnection {
    void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, CloseConnection>;

Connection connect(const std::string& text) {
    Connection connection(PQconnectdb(text.c_str()));
    EXPECT_EQ(PQstatus(connection.get()), CONNECTION_OK) << PQerrorMessage(connection.get());
    return connection;
}

TEST_F(AccountMonitorTest, ConnectionsToPostgres) {
    if (!server)
        GTEST_SKIP() << "PostgreSQL is not installed";
    const PangolinSchema schema("1.22.0", Dialect::postgres);
    server->must("DROP DATABASE IF EXISTS pangolin WITH (FORCE)");
    server->must("CREATE DATABASE pangolin");
    server->must(schema.tables() + schema.beginning() +
                     "DROP ROLE IF EXISTS onlooker; CREATE ROLE onlooker LOGIN;"
                     "GRANT SELECT ON ALL TABLES IN SCHEMA public TO onlooker",
                 "pangolin");
    const std::string text = server->connection_string("pangolin");
    const Connection idle = connect(text);
    const Connection busy = connect(text);
    const Connection tool =
        connect(text + (text.starts_with("postgresql:") ? "&" : " ") + "application_name=psql");
    const std::unique_ptr<PGresult, void (*)(PGresult*)> begun(PQexec(busy.get(), "BEGIN"), PQclear);
    must_read(*make_postgres_site_source(text, SiteLabel::nice_id, monitor));
    const auto connections = counts_of(*monitor).connections;
    ASSERT_TRUE(connections);
    EXPECT_EQ(connections->active, 1U);
    EXPECT_EQ(connections->idle, 1U);
    // Others' state is hidden from a role that is not in pg_read_all_stats.
    must_read(*make_postgres_site_source(server->connection_string("pangolin", "onlooker"),
                                         SiteLabel::nice_id, monitor));
    EXPECT_EQ(error(), "");
    EXPECT_FALSE(counts_of(*monitor).connections);
}

}  // namespace
}  // namespace pangolin
