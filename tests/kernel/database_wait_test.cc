// Real waits for a real SQLite database, against the clock of who waits.
#include "loader/database_wait_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <thread>

#include "loader/base/unique_fd.h"
#include "loader/pin_root.h"
#include "loader/process_table.h"
#include "tests/support/pangolin_database.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/scratch_pins.h"

namespace pangolin::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

double milliseconds_since(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

class DatabaseWait : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        ASSERT_NO_FATAL_FAILURE(load({}));
        path = folder.path("db.sqlite");
        DatabaseWriter(path).must("CREATE TABLE t (x)");
        watch(::getpid());
    }
    // In the place of what is pinned there, while the one before still is in its process.
    void load(const std::optional<KeptPins>& pins) {
        auto loaded = DatabaseWaitProgram::load(pins);
        ASSERT_TRUE(loaded) << loaded.error().message();
        const auto started = loaded->start();
        ASSERT_TRUE(started) << started.error().message();
        EXPECT_EQ(loaded->attachments(), 3U);
        program.emplace(std::move(*loaded));
    }
    void watch(pid_t process) { watch(process, process_start_time(process).value_or(0)); }
    void watch(pid_t process, std::uint64_t start_time) {
        struct stat status{};
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        program->watch(process, start_time, status.st_dev, status.st_ino);
    }
    // A process that has the database locked for `time` from now.
    pid_t lock_elsewhere(milliseconds time) const {
        std::array<int, 2> ends{};
        EXPECT_EQ(::pipe(ends.data()), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            DatabaseWriter writer(path);
            const int result = writer.run("BEGIN EXCLUSIVE");
            if (::write(ends[1], "x", 1) != 1 || result != SQLITE_OK)
                ::_exit(1);
            std::this_thread::sleep_for(time);
            writer.run("COMMIT");
            ::_exit(0);
        }
        char byte = 0;
        EXPECT_EQ(::read(ends[0], &byte, 1), 1);
        ::close(ends[0]);
        ::close(ends[1]);
        return child;
    }
    double lock_milliseconds() const { return static_cast<double>(program->read().lock_ns) / 1e6; }

    ScratchFolder folder;
    std::string path;
    std::optional<DatabaseWaitProgram> program;
};

TEST_F(DatabaseWait, TimesAWaitForALock) {
    DatabaseWriter writer(path);
    writer.must("PRAGMA busy_timeout=5000");
    writer.must("INSERT INTO t VALUES (1)");
    EXPECT_EQ(program->read().locks, 0U);
    const pid_t other = lock_elsewhere(milliseconds(300));
    const auto begin = Clock::now();
    writer.must("INSERT INTO t VALUES (2)");
    const double waited = milliseconds_since(begin);
    ::waitpid(other, nullptr, 0);
    EXPECT_GE(program->read().locks, 1U);
    EXPECT_GT(waited, 200);
    EXPECT_LE(lock_milliseconds(), waited);
    // The rest is the commit, which may take long on a busy disk.
    EXPECT_GT(lock_milliseconds(), 150);
    EXPECT_EQ(program->read().lost, 0U);
}

TEST_F(DatabaseWait, WhoGivesUpWaitedUntilThen) {
    DatabaseWriter writer(path);
    writer.must("PRAGMA busy_timeout=200");
    const pid_t other = lock_elsewhere(milliseconds(1500));
    const auto begin = Clock::now();
    EXPECT_EQ(writer.run("INSERT INTO t VALUES (2)"), SQLITE_BUSY);
    const double waited = milliseconds_since(begin);
    ::waitpid(other, nullptr, 0);
    writer.must("INSERT INTO t VALUES (3)");
    EXPECT_LE(lock_milliseconds(), waited);
    EXPECT_GT(lock_milliseconds(), 0.4 * waited);
}

TEST_F(DatabaseWait, OtherProcessesAndFilesAreNotCounted) {
    const auto wait_once = [&] {
        const pid_t other = lock_elsewhere(milliseconds(150));
        DatabaseWriter writer(path);
        writer.must("PRAGMA busy_timeout=5000");
        writer.must("INSERT INTO t VALUES (1)");
        ::waitpid(other, nullptr, 0);
    };
    // Others' locks here.
    watch(::getppid());
    wait_once();
    EXPECT_EQ(program->read().locks, 0U);
    EXPECT_EQ(program->read().syncs, 0U);
    // This process's elsewhere.
    watch(::getpid());
    path = folder.path("other.sqlite");
    DatabaseWriter(path).must("CREATE TABLE t (x)");
    wait_once();
    EXPECT_EQ(program->read().locks, 0U);
    watch(::getpid());
    wait_once();
    EXPECT_GE(program->read().locks, 1U);
}

// Who has its number, and did not start when it did.
TEST_F(DatabaseWait, ALaterProcessWithTheNumberIsNotCounted) {
    watch(::getpid(), *process_start_time(::getpid()) + 1);
    DatabaseWriter writer(path);
    writer.must("PRAGMA busy_timeout=5000");
    const pid_t other = lock_elsewhere(milliseconds(150));
    writer.must("INSERT INTO t VALUES (1)");
    ::waitpid(other, nullptr, 0);
    EXPECT_EQ(program->read().locks, 0U);
    EXPECT_EQ(program->read().syncs, 0U);
}

// Pinned for as long as the test runs.
class DatabaseWaitOfSeveral : public DatabaseWait {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        auto opened = PinRoot::open(pins.path());
        ASSERT_TRUE(opened) << opened.error().message();
        root.emplace(std::move(*opened));
        DatabaseWait::SetUp();
        load_next();
        watch(::getpid());
    }
    void TearDown() override {
        program.reset();
        root.reset();
    }
    void load_next() {
        ASSERT_NO_FATAL_FAILURE(load(root->kept("waits", written)));
        written = std::string(pin_layout) + "/waits/1";
    }
    double wait(milliseconds time) {
        DatabaseWriter writer(path);
        writer.must("PRAGMA busy_timeout=5000");
        const pid_t other = lock_elsewhere(time);
        const auto begin = Clock::now();
        writer.must("INSERT INTO t VALUES (1)");
        const double waited = milliseconds_since(begin);
        ::waitpid(other, nullptr, 0);
        return waited;
    }
    double all_milliseconds() const {
        const database_wait sum = program->read();
        return static_cast<double>(sum.lock_ns + sum.sync_ns) / 1e6;
    }

    const ScratchPins pins{"waits"};
    std::optional<PinRoot> root;
    std::string written;
};

TEST_F(DatabaseWaitOfSeveral, CountsOnWhileNobodyIsThere) {
    double waited = wait(milliseconds(200));
    program.reset();
    waited += wait(milliseconds(300));
    load_next();
    // Nobody said what is to be watched.
    waited += wait(milliseconds(200));
    EXPECT_GT(waited, 600);
    EXPECT_LE(all_milliseconds(), waited);
    EXPECT_GT(all_milliseconds(), 0.8 * waited);
}

TEST_F(DatabaseWaitOfSeveral, AWaitMayLastOverATakeover) {
    std::jthread takes_over([&] {
        for (int i = 0; i < 3; ++i) {
            std::this_thread::sleep_for(milliseconds(100));
            load_next();
        }
    });
    const double waited = wait(milliseconds(1000));
    takes_over.join();
    EXPECT_EQ(program->read().lost, 0U);
    EXPECT_GT(waited, 900);
    EXPECT_LE(all_milliseconds(), waited);
    EXPECT_GT(all_milliseconds(), 0.8 * waited);
}

TEST_F(DatabaseWait, TimesFsyncs) {
    if (!can_time_syncs(path))
        GTEST_SKIP() << "the temporary folder is not on ext4";
    const UniqueFd file(::open(folder.path("journal").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    double waited = 0;
    constexpr int syncs = 20;
    for (int i = 0; i < syncs; ++i) {
        ASSERT_EQ(::write(file.get(), "text", 4), 4);
        const auto begin = Clock::now();
        ASSERT_EQ(i % 2 ? ::fsync(file.get()) : ::fdatasync(file.get()), 0);
        waited += milliseconds_since(begin);
    }
    const database_wait wait = program->read();
    EXPECT_EQ(wait.syncs, static_cast<std::uint64_t>(syncs));
    EXPECT_LE(static_cast<double>(wait.sync_ns) / 1e6, waited);
    EXPECT_GT(static_cast<double>(wait.sync_ns) / 1e6, 0.8 * waited - 1);
}

}  // namespace
}  // namespace pangolin::test
