// Real queries to a real PostgreSQL, against the clock of who waits.
#include "loader/postgres_wait_program.h"

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "loader/cgroup.h"
#include "loader/pin_root.h"
#include "tests/support/namespace_child.h"
#include "tests/support/postgres_server.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_pins.h"

namespace pangolin::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint16_t port = 54329;

NetworkNamespace own_netns() {
    return {.id = network_namespace_of(::getpid()).value(), .path = "/proc/self/ns/net", .name = "own"};
}

class Connection {
  public:
    explicit Connection(const std::string& options = "sslmode=disable")
        : connection_(PQconnectdb(("host=127.0.0.1 port=" + std::to_string(port) +
                                   " dbname=postgres user=postgres gssencmode=disable " + options)
                                      .c_str()),
                      PQfinish) {
        EXPECT_EQ(PQstatus(connection_.get()), CONNECTION_OK) << PQerrorMessage(connection_.get());
    }
    // Seconds that it took, by our own clock.
    double run(const std::string& sql) {
        const auto begin = Clock::now();
        const std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(connection_.get(), sql.c_str()),
                                                                    PQclear);
        const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
        const ExecStatusType status = PQresultStatus(result.get());
        EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
            << PQerrorMessage(connection_.get());
        return seconds;
    }
    // With bound values, as drivers send it: Parse, Bind, Describe, Execute, Sync.
    double run_prepared(const char* sql, const char* value) {
        const auto begin = Clock::now();
        const std::unique_ptr<PGresult, void (*)(PGresult*)> result(
            PQexecParams(connection_.get(), sql, 1, nullptr, &value, nullptr, nullptr, 0), PQclear);
        EXPECT_EQ(PQresultStatus(result.get()), PGRES_TUPLES_OK);
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }

  private:
    std::unique_ptr<PGconn, void (*)(PGconn*)> connection_;
};

class PostgresWait : public testing::Test {
  protected:
    static void TearDownTestSuite() { server.reset(); }
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        if (!server)
            server = PostgresServer::start(port);
        if (!server && continuous_integration())
            FAIL() << "needs PostgreSQL, and CI=true allows no skip";
        if (!server)
            GTEST_SKIP() << "needs PostgreSQL";
        const auto root = find_cgroup_root();
        ASSERT_TRUE(root) << root.error().message();
        ASSERT_NO_FATAL_FAILURE(load({}));
        const auto watched = program->watch(own_netns(), port, *root);
        ASSERT_TRUE(watched) << watched.error().message();
        EXPECT_EQ(program->attachments(), 3U);
    }
    // In the place of what is pinned there, while the one before still is in its process.
    void load(const std::optional<KeptPins>& pins) {
        auto loaded = PostgresWaitProgram::load(pins);
        ASSERT_TRUE(loaded) << loaded.error().message();
        const auto started = loaded->start();
        ASSERT_TRUE(started) << started.error().message();
        program.emplace(std::move(*loaded));
    }
    double seconds() const { return static_cast<double>(program->read().wait_ns) / 1e9; }

    // Making one takes seconds. What encrypts it comes last.
    static inline std::unique_ptr<PostgresServer> server;
    std::optional<PostgresWaitProgram> program;
};

// On the wire it is a little less than on the caller's clock.
constexpr double slack = 0.02;

TEST_F(PostgresWait, TimesConnectingAndEachQuery) {
    const auto begin = Clock::now();
    Connection connection;
    const double connected = seconds();
    EXPECT_EQ(program->read().waits, 1U);
    EXPECT_GT(connected, 0);
    EXPECT_LT(connected, std::chrono::duration<double>(Clock::now() - begin).count());
    double waited = connection.run("SELECT pg_sleep(0.3)");
    waited += connection.run_prepared("SELECT pg_sleep($1::float)", "0.2");
    EXPECT_GT(waited, 0.5);
    EXPECT_NEAR(seconds() - connected, waited, slack);
    EXPECT_LT(seconds() - connected, waited);
    EXPECT_EQ(program->read().waits, 3U);
    // Nobody waits while nothing is asked.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_NEAR(seconds() - connected, waited, slack);
}

TEST_F(PostgresWait, TimesAWaitForALock) {
    Connection holder;
    Connection waiting;
    holder.run("CREATE TABLE t (x int)");
    holder.run("BEGIN");
    holder.run("LOCK TABLE t");
    const double before = seconds();
    std::jthread release([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(700));
        holder.run("COMMIT");
    });
    const double waited = waiting.run("INSERT INTO t VALUES (1)");
    release.join();
    EXPECT_GT(waited, 0.69);
    EXPECT_NEAR(seconds() - before, waited, 2 * slack);
}

TEST_F(PostgresWait, AnswersOfAnySizeEndOnce) {
    Connection connection;
    const auto before = program->read();
    double waited = 0;
    int queries = 0;
    // Long ones come in many segments; values that look like the end of an answer are none.
    for (const char* sql :
         {"SELECT repeat('x', 3000000)", "SELECT repeat('Z', 100000) FROM generate_series(1, 20)", "SELECT 1",
          "SELECT '\\x5a0000000549'::bytea", "SELECT 1; SELECT 2; SELECT 3", ""}) {
        waited += connection.run(*sql == '\0' ? "SELECT" : sql);
        ++queries;
    }
    EXPECT_EQ(program->read().waits - before.waits, queries);
    EXPECT_NEAR(static_cast<double>(program->read().wait_ns - before.wait_ns) / 1e9, waited, 3 * slack);
}

TEST_F(PostgresWait, OthersAreNotTimed) {
    const auto root = find_cgroup_root();
    // Of another namespace.
    const NamespaceChild other;
    ASSERT_TRUE(other.running());
    ASSERT_TRUE(program->watch(other.netns(), port, *root));
    Connection elsewhere;
    elsewhere.run("SELECT 1");
    EXPECT_EQ(program->read().waits, 0U);
    // To another port.
    ASSERT_TRUE(program->watch(own_netns(), port + 1, *root));
    elsewhere.run("SELECT 1");
    EXPECT_EQ(program->read().waits, 0U);
    // One that was there before is known from its next query on.
    ASSERT_TRUE(program->watch(own_netns(), port, *root));
    const double waited = elsewhere.run("SELECT pg_sleep(0.1)");
    EXPECT_EQ(program->read().waits, 1U);
    EXPECT_NEAR(seconds(), waited, slack);
}

TEST_F(PostgresWait, MovesToAnotherControlGroup) {
    const std::string group = *find_cgroup_root() + "/pangolin_exporter_test-" + std::to_string(::getpid());
    std::filesystem::create_directory(group);
    // Nobody is in it.
    ASSERT_TRUE(program->watch(own_netns(), port, group));
    EXPECT_EQ(program->attachments(), 3U);
    Connection connection;
    connection.run("SELECT 1");
    EXPECT_EQ(program->read().waits, 0U);
    std::filesystem::remove(group);
    EXPECT_FALSE(program->watch(own_netns(), port, group + "/none"));
    ASSERT_TRUE(program->watch(own_netns(), port, *find_cgroup_root()));
    EXPECT_EQ(program->attachments(), 3U);
    connection.run("SELECT 1");
    EXPECT_EQ(program->read().waits, 1U);
}

// Pinned for as long as the test runs.
class PostgresWaitOfSeveral : public PostgresWait {
  protected:
    void SetUp() override {
        PostgresWait::SetUp();
        if (!program)
            return;
        auto opened = PinRoot::open(pins.path());
        ASSERT_TRUE(opened) << opened.error().message();
        root.emplace(std::move(*opened));
        load_next();
        ASSERT_TRUE(program->watch(own_netns(), port, *find_cgroup_root()));
    }
    void TearDown() override {
        program.reset();
        root.reset();
    }
    void load_next() {
        ASSERT_NO_FATAL_FAILURE(load(root->kept("waits", written)));
        written = std::string(pin_layout) + "/waits/1";
    }

    const ScratchPins pins{"waits"};
    std::optional<PinRoot> root;
    std::string written;
};

TEST_F(PostgresWaitOfSeveral, CountsOnWhileNobodyIsThere) {
    Connection connection;
    const double before = seconds();
    double waited = connection.run("SELECT pg_sleep(0.1)");
    program.reset();
    waited += connection.run("SELECT pg_sleep(0.3)");
    load_next();
    // Nobody said what is to be watched.
    waited += connection.run("SELECT pg_sleep(0.1)");
    EXPECT_EQ(program->read().waits, 4U);
    EXPECT_NEAR(seconds() - before, waited, slack);
    // In the place of the programs of before, and not beside them.
    ASSERT_TRUE(program->watch(own_netns(), port, *find_cgroup_root()));
    EXPECT_EQ(program->attachments(), 3U);
    waited += connection.run("SELECT pg_sleep(0.1)");
    EXPECT_EQ(program->read().waits, 5U);
    EXPECT_NEAR(seconds() - before, waited, slack);
}

TEST_F(PostgresWaitOfSeveral, AWaitMayLastOverATakeover) {
    Connection connection;
    const double before = seconds();
    std::jthread takes_over([&] {
        for (int i = 0; i < 3; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            load_next();
            EXPECT_TRUE(program->watch(own_netns(), port, *find_cgroup_root()));
        }
    });
    const double waited = connection.run("SELECT pg_sleep(1.5)");
    takes_over.join();
    EXPECT_EQ(program->read().waits, 2U);
    EXPECT_NEAR(seconds() - before, waited, slack);
}

TEST_F(PostgresWait, WhatIsEncryptedIsCountedAndNotTimed) {
    // Refused by this server: it goes on in plain text.
    Connection plain("sslmode=prefer");
    plain.run("SELECT 1");
    EXPECT_EQ(program->read().encrypted, 0U);
    EXPECT_EQ(program->read().waits, 2U);
    server->encrypt();
    Connection encrypted("sslmode=require");
    encrypted.run("SELECT pg_sleep(0.1)");
    EXPECT_EQ(program->read().encrypted, 1U);
    EXPECT_EQ(program->read().waits, 2U);
}

}  // namespace
}  // namespace pangolin::test
