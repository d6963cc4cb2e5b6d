// A real PostgreSQL server, of this test alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/support/pangolin_database.h"
#include "tests/support/pangolin_sample.h"
#include "tests/support/postgres_server.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

class PostgresSiteSource : public testing::Test {
  protected:
    static void SetUpTestSuite() { server = PostgresServer::start(); }
    static void TearDownTestSuite() { server.reset(); }

    void SetUp() override {
        if (!server)
            GTEST_SKIP() << "PostgreSQL is not installed";
    }

    // A fresh database `name` in that version's schema, with the sample in it.
    static std::string make(const std::string& name, std::string_view version = "1.22.0") {
        server->must("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)");
        server->must("CREATE DATABASE " + name);
        const PangolinSchema schema(version, Dialect::postgres);
        server->must(schema.tables() + sample_rows(schema), name);
        return server->connection_string(name);
    }

    static std::string message(SiteSource& source) {
        const auto directory = source.read();
        if (directory)
            return "no error";
        EXPECT_THAT(directory.error().hint, EndsWith("."));
        EXPECT_EQ(directory.error().message().find('\n'), std::string::npos);
        return directory.error().message();
    }

    static std::unique_ptr<SiteSource> open(const std::string& connection_string) {
        return make_postgres_site_source(connection_string, SiteLabel::nice_id);
    }

    static inline std::unique_ptr<PostgresServer> server;
};

TEST_F(PostgresSiteSource, ReadsEverythingOfEachVersion) {
    for (const char* version : pangolin_versions) {
        SCOPED_TRACE(version);
        const auto source = open(make("pangolin", version));
        EXPECT_EQ(source->name(), "postgres");
        const auto directory = source->read();
        ASSERT_TRUE(directory) << directory.error().message();
        const SiteDirectory expected = sample_directory(PangolinSchema(version));
        EXPECT_TRUE(directory->sites == expected.sites);
        EXPECT_TRUE(directory->resources == expected.resources);
        EXPECT_TRUE(directory->targets == expected.targets);
        EXPECT_TRUE(directory->clients == expected.clients);
    }
}

TEST_F(PostgresSiteSource, SeesCommitsAndAnUpgradeOfTheSchema) {
    const auto source = open(make("pangolin", "1.19.0"));
    EXPECT_EQ(source->read().value().sites.size(), 4U);
    server->must(R"(DELETE FROM "sites" WHERE "siteId" = 3)", "pangolin");
    EXPECT_EQ(source->read().value().sites.size(), 3U);
    server->must(R"(ALTER TABLE "sites" RENAME COLUMN "subnet" TO "exitNodeSubnet")", "pangolin");
    EXPECT_TRUE(source->read().value().sites[2].tunnel_address);
    server->must(R"(DROP TABLE "targets")", "pangolin");
    EXPECT_TRUE(source->read().value().targets.empty());
}

TEST_F(PostgresSiteSource, ReadsEveryPage) {
    const auto source = open(make("pangolin"));
    server->must(R"(INSERT INTO "sites" ("siteId","orgId","niceId","name","type")
                    SELECT i, 'lab', 'n' || i, 'N', 'newt' FROM generate_series(10, 2006) i)",
                 "pangolin");
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->sites.size(), 2001U);
}

TEST_F(PostgresSiteSource, MalformedFieldsLeaveTheirRows) {
    const auto source = open(make("pangolin"));
    server->must(R"(UPDATE "sites" SET "pubKey" = 'nonsense', "exitNodeSubnet" = '300.1.1.1/8';
                    UPDATE "targets" SET "port" = 99999, "internalPort" = -1, "pathMatchType" = 'odd';
                    UPDATE "resources" SET "proxyPort" = -5, "fullDomain" = chr(7);
                    INSERT INTO "targets" ("targetId", "resourceId", "siteId", "ip", "port")
                    VALUES (50, 77, 1, 'x', 1), (51, 1, 77, 'x', 1))",
                 "pangolin");
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->sites.size(), 4U);
    EXPECT_EQ(directory->resources.size(), 5U);
    EXPECT_EQ(directory->targets.size(), 8U);
    EXPECT_EQ(std::ranges::count_if(directory->targets, [](const Target& target) { return !target.site; }),
              1);
}

TEST_F(PostgresSiteSource, TheSessionCannotWriteAndLeavesNoTransaction) {
    const auto source = open(make("pangolin"));
    ASSERT_TRUE(source->read());
    server->must(R"(DO $$ BEGIN
        ASSERT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pangolin_exporter') = 1;
        ASSERT (SELECT state FROM pg_stat_activity WHERE application_name = 'pangolin_exporter') = 'idle';
        ASSERT (SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                WHERE a.application_name = 'pangolin_exporter') = 0;
        END $$)",
                 "pangolin");
    // A column that writes when it is read.
    server->must(R"(ALTER TABLE "sites" RENAME TO "real_sites";
        CREATE FUNCTION write() RETURNS text LANGUAGE sql VOLATILE
            AS 'INSERT INTO orgs ("orgId", "name") VALUES (''x'', ''x'') RETURNING "name"';
        CREATE VIEW "sites" AS SELECT "siteId", "orgId", write() AS "niceId", "name", "exitNodeSubnet"
            FROM "real_sites")",
                 "pangolin");
    EXPECT_THAT(message(*source), HasSubstr("cannot execute INSERT in a read-only transaction"));
}

TEST_F(PostgresSiteSource, ARestartOfTheServerCostsNoReading) {
    const auto source = open(make("pangolin"));
    ASSERT_TRUE(source->read());
    server->stop();
    EXPECT_THAT(message(*source), AllOf(HasSubstr("cannot connect to the PostgreSQL database pangolin on "),
                                        HasSubstr("Is PostgreSQL running")));
    server->run();
    ASSERT_TRUE(source->read());
    server->stop();
    server->run();
    EXPECT_TRUE(source->read());
    server->must(R"(SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name = 'pangolin_exporter')");
    EXPECT_TRUE(source->read());
}

TEST_F(PostgresSiteSource, FailuresSayWhyAndWhatToDo) {
    make("pangolin");
    server->must(R"(DROP ROLE IF EXISTS secret; CREATE ROLE secret LOGIN PASSWORD 'right';
                    DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN)");
    server->must("CREATE TABLE other (x integer)");
    struct Row {
        const char* description;
        std::string connection_string;
        const char* what;
        const char* hint;
    };
    const Row rows[] = {
        {"wrong password", server->connection_string("pangolin", "secret", "hunter2"),
         "password authentication failed for user \"secret\"", "Check the user"},
        {"no such role", server->connection_string("pangolin", "nobody_there"),
         "role \"nobody_there\" does not exist", "Check the user"},
        {"no such database", server->connection_string("absent"), "database \"absent\" does not exist",
         "Check the database's name"},
        {"another program's database", server->connection_string("postgres"), "it lacks table sites",
         "Pangolin 1.9 to 1.22 is supported"},
        {"a role that may read nothing", server->connection_string("pangolin", "reader"),
         "it lacks table sites", "may SELECT"},
        {"nobody there", "postgresql://pangolin:hunter2@127.0.0.1:1/pangolin", "Connection refused",
         "published port"},
        {"no such name", "postgresql://pangolin:hunter2@postgres.invalid:5432/pangolin",
         "could not translate host name", "Docker's network"},
        {"no socket", "host=/nonexistent password=hunter2", "No such file", "Is PostgreSQL running"},
        {"no string", "what is this hunter2", "connection string", "Write it as in"},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        const auto source = open(row.connection_string);
        EXPECT_THAT(message(*source),
                    AllOf(HasSubstr(row.what), HasSubstr(row.hint), Not(HasSubstr("hunter2"))));
    }
}

// Secrets can be kept from the exporter's role: what it may not read is taken for absent.
TEST_F(PostgresSiteSource, SomeColumnsAreEnough) {
    make("pangolin");
    server->must("DROP ROLE IF EXISTS scanty; CREATE ROLE scanty LOGIN");
    server->must(
        R"(GRANT SELECT ("siteId", "orgId", "niceId", "name", "exitNodeSubnet", "type") ON "sites" TO scanty;
                    GRANT SELECT ON "resources", "targets" TO scanty)",
        "pangolin");
    const auto directory = open(server->connection_string("pangolin", "scanty"))->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->sites.size(), 4U);
    EXPECT_EQ(directory->targets.size(), 7U);
    EXPECT_TRUE(directory->clients.empty());
    EXPECT_FALSE(directory->sites[3].public_key);
    EXPECT_TRUE(directory->targets[0].dialled);
}

TEST_F(PostgresSiteSource, AMigrationThatLocksTheTableIsNotWaitedFor) {
    const auto source = open(make("pangolin"));
    ASSERT_TRUE(source->read());
    std::thread migration(
        [&] { server->must(R"(BEGIN; LOCK TABLE "sites"; SELECT pg_sleep(2); COMMIT)", "pangolin"); });
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(message(*source), AllOf(HasSubstr("lock timeout"), HasSubstr("tries again")));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1500));
    migration.join();
    EXPECT_TRUE(source->read());
}

TEST_F(PostgresSiteSource, ASilentServerIsGivenUp) {
    const auto source = open(make("pangolin"));
    ASSERT_TRUE(source->read());
    // Stops everything that the server consists of.
    server->freeze(true);
    const auto start = std::chrono::steady_clock::now();
    const std::string error = message(*source);
    const auto time = std::chrono::steady_clock::now() - start;
    server->freeze(false);
    EXPECT_THAT(error, HasSubstr("it does not answer"));
    EXPECT_LT(time, std::chrono::seconds(7));
    EXPECT_TRUE(source->read());
}

}  // namespace
}  // namespace pangolin
