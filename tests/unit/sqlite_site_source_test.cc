#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/support/pangolin_database.h"
#include "tests/support/pangolin_sample.h"
#include "tests/support/scratch_folder.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/sqlite_connection.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* home =
    "1,'org','s-abc',1,'Home','hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=','100.89.128.4/30','newt',1";
constexpr const char* office = "2,'org','office',NULL,'Office',NULL,'100.89.128.8/30','wireguard',0";

// One Pangolin of 1.22, with its database and the source that reads it.
class SqliteSiteSource : public testing::Test {
  protected:
    void make(const std::string& name = "db.sqlite", std::string_view version = "1.22.0") {
        path = folder.path(name);
        writer = std::make_unique<DatabaseWriter>(path);
        const PangolinSchema schema(version);
        constexpr bool strict = false;
        writer->must(schema.tables(strict) + schema.beginning() + schema.site(home) + schema.site(office));
        source = make_sqlite_site_source(path, SiteLabel::nice_id);
    }

    std::vector<std::string> labels() {
        const auto directory = source->read();
        if (!directory)
            return {directory.error().message()};
        std::vector<std::string> result;
        for (const Site& site : directory->sites)
            result.push_back(site.site_id);
        return result;
    }

    // The message of the error that read() must give.
    std::string message() {
        const auto directory = source->read();
        if (directory)
            return "no error";
        EXPECT_THAT(directory.error().hint, EndsWith("."));
        EXPECT_EQ(directory.error().message().find('\n'), std::string::npos);
        return directory.error().message();
    }

    ScratchFolder folder;
    std::string path;
    std::unique_ptr<DatabaseWriter> writer;
    std::unique_ptr<SiteSource> source;
};

TEST_F(SqliteSiteSource, ReadsSitesOfEachVersion) {
    for (const char* version : pangolin_versions) {
        SCOPED_TRACE(version);
        make(std::string(version) + ".sqlite", version);
        EXPECT_EQ(source->name(), "sqlite");
        const auto directory = source->read();
        ASSERT_TRUE(directory) << directory.error().message();
        ASSERT_EQ(directory->sites.size(), 2U);
        const Site& second = directory->sites[0];
        EXPECT_EQ(second.site_id, "office");
        EXPECT_EQ(second.type, SiteType::wireguard);
        EXPECT_FALSE(second.public_key);
        EXPECT_EQ(second.online, false);
        EXPECT_EQ(second.exit_node, "");
        EXPECT_FALSE(second.exit_node_public_key);
        const Site& first = directory->sites[1];
        EXPECT_EQ(first.site_id, "s-abc");
        EXPECT_EQ(first.name, "Home");
        EXPECT_EQ(first.organisation, "org");
        EXPECT_EQ(first.public_key.value().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        EXPECT_THAT(first.tunnel, ElementsAre(IpPrefix::parse("100.89.128.4/30").value()));
        EXPECT_EQ(first.exit_node, "main");
        EXPECT_EQ(first.region, "eu");
        EXPECT_TRUE(first.exit_node_public_key);
        EXPECT_EQ(first.online, true);
    }
}

TEST_F(SqliteSiteSource, ReadsEverythingOfEachVersion) {
    for (const char* version : pangolin_versions) {
        SCOPED_TRACE(version);
        const PangolinSchema schema(version);
        path = folder.path(std::string("all-") + version);
        DatabaseWriter(path).must(schema.tables() + sample_rows(schema));
        source = make_sqlite_site_source(path, SiteLabel::nice_id);
        const auto directory = source->read();
        ASSERT_TRUE(directory) << directory.error().message();
        const SiteDirectory expected = sample_directory(schema);
        EXPECT_TRUE(directory->sites == expected.sites);
        EXPECT_TRUE(directory->resources == expected.resources);
        EXPECT_TRUE(directory->targets == expected.targets);
        EXPECT_TRUE(directory->clients == expected.clients);
    }
}

TEST_F(SqliteSiteSource, OptionalColumnsAndTablesMayBeMissing) {
    path = folder.path("old.sqlite");
    writer = std::make_unique<DatabaseWriter>(path);
    writer->must(
        R"(CREATE TABLE "sites" ("siteId" integer PRIMARY KEY, "orgId" text, "niceId" text, "name" text,
                    "subnet" text); INSERT INTO "sites" VALUES (1, 'o', 'a', 'A', '10.0.0.0/30');)");
    source = make_sqlite_site_source(path, SiteLabel::nice_id);
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->sites[0].type, SiteType::newt);
    EXPECT_FALSE(directory->sites[0].online);
    EXPECT_FALSE(directory->sites[0].public_key);
    EXPECT_EQ(directory->sites[0].region, "");
}

TEST_F(SqliteSiteSource, ReadsEveryPage) {
    make();
    writer->must(R"(WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 2001)
                    INSERT INTO "sites" ("siteId","orgId","niceId","name","exitNodeSubnet","type")
                    SELECT i, 'org', 'n' || i, 'N', '10.' || (i / 256) || '.' || (i % 256) || '.0/30', 'newt' FROM n)");
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->sites.size(), 2001U);
}

TEST_F(SqliteSiteSource, SeesCommitsAtOnceAndAnUpgradeOfTheSchema) {
    make("db.sqlite", "1.19.0");
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    writer->must(R"(DELETE FROM "sites" WHERE "siteId" = 2)");
    EXPECT_THAT(labels(), ElementsAre("s-abc"));
    // What Pangolin 1.22.0 does at its first start.
    writer->must(R"(ALTER TABLE "sites" RENAME COLUMN "subnet" TO "exitNodeSubnet")");
    EXPECT_THAT(source->read().value().sites[0].tunnel,
                ElementsAre(IpPrefix::parse("100.89.128.4/30").value()));
    writer->must(R"(ALTER TABLE "sites" DROP COLUMN "online")");
    EXPECT_FALSE(source->read().value().sites[0].online);
}

TEST_F(SqliteSiteSource, MalformedRowsDoNotHideTheOthers) {
    make();
    for (const char* row :
         {"3,'org',NULL,99,NULL,'nonsense','nonsense','nonsense',7",
          "4,'other','office',1,'O',NULL,'::/129','newt',1",
          "5,'org',x'ff00fe',1,x'ff',x'00',x'00','newt','text'", "6,'org','',1,'','','','',1"})
        writer->must(PangolinSchema("1.22.0").site(row));
    EXPECT_THAT(labels(), ElementsAre("3", "6", "org/office", "other/office", "s-abc",
                                      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"));
}

TEST_F(SqliteSiteSource, IdsThatAreNoNumbersEndTheReading) {
    path = folder.path("odd.sqlite");
    writer = std::make_unique<DatabaseWriter>(path);
    writer->must(
        R"(CREATE TABLE "sites" ("siteId" text, "orgId" text, "niceId" text, "name" text, "subnet" text);
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
                    INSERT INTO "sites" SELECT 'x', 'o', 'n' || i, 'N', NULL FROM n)");
    source = make_sqlite_site_source(path, SiteLabel::nice_id);
    EXPECT_TRUE(source->read());
}

// Pangolin's Node thread stands still while somebody holds a lock that it needs.
TEST_F(SqliteSiteSource, HoldsNoLockAfterARead) {
    for (const char* mode : {"DELETE", "WAL"}) {
        SCOPED_TRACE(mode);
        make(std::string(mode) + ".sqlite");
        writer->must(std::string("PRAGMA journal_mode=") + mode);
        writer->must(R"(UPDATE "sites" SET "bytesIn" = 1)");
        for (int i = 0; i < 3; ++i) {
            EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
            EXPECT_EQ(writer->run("BEGIN EXCLUSIVE"), SQLITE_OK);
            EXPECT_EQ(writer->run(R"(UPDATE "sites" SET "bytesIn" = "bytesIn" + 1)"), SQLITE_OK);
            EXPECT_EQ(writer->run("COMMIT"), SQLITE_OK);
        }
        // Needs the file for itself alone, which an open connection in WAL mode would prevent.
        EXPECT_EQ(writer->run("PRAGMA journal_mode=DELETE"), SQLITE_OK);
        EXPECT_FALSE(std::filesystem::exists(path + "-wal"));
        EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    }
}

TEST_F(SqliteSiteSource, WritesNothing) {
    make();
    writer->close();
    const auto before = std::filesystem::last_write_time(path);
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    EXPECT_EQ(std::filesystem::last_write_time(path), before);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path("")), {}), 1);
}

TEST_F(SqliteSiteSource, ABusyWriterAndTheReaderGetOn) {
    make();
    std::atomic<bool> stop = false;
    std::atomic<int> commits = 0;
    std::atomic<int> failures = 0;
    std::thread busy([&] {
        DatabaseWriter pangolin(path);
        pangolin.must("PRAGMA synchronous=OFF; PRAGMA busy_timeout=5000");
        while (!stop) {
            const int result = pangolin.run(R"(UPDATE "sites" SET "bytesIn" = "bytesIn" + 1)");
            ++(result == SQLITE_OK ? commits : failures);
        }
    });
    int read = 0;
    for (int i = 0; i < 200; ++i)
        read += source->read() ? 1 : 0;
    stop = true;
    busy.join();
    EXPECT_EQ(failures, 0);
    EXPECT_GT(commits, 0);
    EXPECT_GT(read, 100);
}

TEST_F(SqliteSiteSource, AReplacedFileIsReadAnew) {
    make();
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    const std::string current = path;
    make("restored.sqlite", "1.19.0");
    writer->must(R"(DELETE FROM "sites" WHERE "siteId" = 1)");
    writer->close();
    source = make_sqlite_site_source(current, SiteLabel::nice_id);
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    std::filesystem::rename(path, current);
    EXPECT_THAT(labels(), ElementsAre("office"));
    std::filesystem::remove(current);
    EXPECT_THAT(message(), HasSubstr("No such file"));
}

TEST_F(SqliteSiteSource, PathsMayHoldAnyCharacter) {
    for (const char* name :
         {"a b.sqlite", "what?mode=rwc&cache=shared", "100%25.sqlite", "hash#tag", "quo'te\"s", "ünïcode",
          "new\nline", "back\\slash", "file:", ";semi", "\xff\xfe"}) {
        SCOPED_TRACE(name);
        make(name);
        writer->close();
        EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    }
    EXPECT_EQ(sqlite_read_only_uri("/a b?c#d%e"), "file:///a%20b%3Fc%23d%25e?mode=ro");
    // Two slashes at the beginning would name a host.
    path = folder.path("plain.sqlite");
    make("plain.sqlite");
    source = make_sqlite_site_source("/" + path, SiteLabel::nice_id);
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
}

TEST_F(SqliteSiteSource, ALockedDatabaseIsAnErrorThatPasses) {
    make();
    writer->must("BEGIN EXCLUSIVE");
    EXPECT_THAT(message(), AllOf(HasSubstr("database is locked"), HasSubstr("tries again")));
    writer->must("ROLLBACK");
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
    writer->must("BEGIN EXCLUSIVE");
    EXPECT_EQ(source->read().error().code, EBUSY);
    writer->must("ROLLBACK");
    EXPECT_THAT(labels(), ElementsAre("office", "s-abc"));
}

TEST_F(SqliteSiteSource, FilesThatCannotBeReadSayWhy) {
    struct Row {
        const char* description;
        std::string path;
        const char* message;
    };
    make("wal.sqlite");
    writer->must("PRAGMA journal_mode=WAL");
    writer->close();
    ASSERT_FALSE(std::filesystem::exists(path + "-shm"));
    const std::string fifo = folder.path("fifo");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    const Row rows[] = {
        {"missing", folder.path("absent"),
         "absent: No such file or directory (HINT: Set metrics.metadata.sqlite"},
        {"missing folder", folder.path("x/y/absent"), "No such file or directory (HINT: Set"},
        {"below a file", path + "/db.sqlite", "Not a directory (HINT: Set"},
        {"directory", folder.path(""), "it is a directory (HINT: Name the file"},
        {"empty", folder.write("empty", ""), "it is empty (HINT: Pangolin creates"},
        {"fifo", fifo, "it is not a regular file (HINT: Name"},
        {"text", folder.write("text", std::string(4096, 'x')),
         "file is not a database (HINT: The file is not a SQLite"},
        // SQLite itself takes it for an empty database.
        {"short text", folder.write("short", "x"), "it is too short for a database (HINT: Check"},
        {"WAL at rest", path,
         "in WAL mode and nobody has it open (there is no -shm file beside it) (HINT: Start Pangolin"},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        source = make_sqlite_site_source(row.path, SiteLabel::nice_id);
        EXPECT_THAT(message(), HasSubstr(row.message));
        EXPECT_THAT(message(), HasSubstr(row.path));
    }
    // Looking changed nothing.
    EXPECT_FALSE(std::filesystem::exists(path + "-shm"));
    EXPECT_FALSE(std::filesystem::exists(path + "-wal"));
}

TEST_F(SqliteSiteSource, CorruptFilesAreErrors) {
    make();
    writer->close();
    const auto size = std::filesystem::file_size(path);
    // Every page after the header page, in turn, and a file cut short: an error or a result, never a crash.
    for (std::uintmax_t at = 100; at < size; at += 512) {
        SCOPED_TRACE(at);
        const std::string copy = folder.path("copy.sqlite");
        std::filesystem::copy_file(path, copy, std::filesystem::copy_options::overwrite_existing);
        std::fstream(copy, std::ios::in | std::ios::out | std::ios::binary)
            .seekp(static_cast<std::streamoff>(at))
            .write(std::string(512, '\xa5').data(), 512);
        const auto directory = make_sqlite_site_source(copy, SiteLabel::nice_id)->read();
        EXPECT_TRUE(directory || !directory.error().hint.empty());
    }
    std::filesystem::resize_file(path, 5000);
    EXPECT_THAT(message(), AllOf(HasSubstr("malformed"), HasSubstr("integrity_check")));
}

TEST_F(SqliteSiteSource, AnotherProgramsDatabaseIsNamedAsSuch) {
    struct Row {
        const char* sql;
        const char* missing;
    };
    const Row rows[] = {
        {"CREATE TABLE other (x)", "it lacks table sites (HINT: Pangolin 1.9 to 1.22 is supported."},
        {"CREATE TABLE sites (x)",
         "it lacks column sites.siteId, column sites.orgId, column sites.niceId, column sites.name, "
         "column sites.exitNodeSubnet (sites.subnet before 1.22) (HINT"},
        {R"(CREATE TABLE sites ("siteId", "orgId", "niceId", "name"))",
         "it lacks column sites.exitNodeSubnet (sites.subnet before 1.22) (HINT"},
        {R"(CREATE TABLE sites ("siteId", "orgId", "name", "subnet"); CREATE TABLE "versionMigrations" (version, "executedAt");
            INSERT INTO "versionMigrations" VALUES ('1.9.0', 1), ('2.0.0', 9), ('1.22.0', 5))",
         "it lacks column sites.niceId (made by Pangolin '2.0.0') (HINT"},
    };
    int count = 0;
    for (const Row& row : rows) {
        path = folder.path("other" + std::to_string(count++));
        DatabaseWriter(path).must(row.sql);
        source = make_sqlite_site_source(path, SiteLabel::nice_id);
        EXPECT_THAT(message(), HasSubstr(row.missing));
    }
}

TEST_F(SqliteSiteSource, TheTablesThatAppearLaterAreFound) {
    path = folder.path("young.sqlite");
    writer = std::make_unique<DatabaseWriter>(path);
    writer->must("CREATE TABLE other (x)");
    source = make_sqlite_site_source(path, SiteLabel::nice_id);
    EXPECT_THAT(message(), HasSubstr("lacks table sites"));
    writer->must(PangolinSchema("1.22.0").tables());
    EXPECT_TRUE(labels().empty());
}

}  // namespace
}  // namespace pangolin
