// The time that Pangolin (here: this process) waits for its database, over the ends of exporters: by its own
// clock, wherever one may be killed while it takes over from another.
#include "userspace/host/database_monitor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/pin_root.h"
#include "loader/process_table.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/scratch_pins.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

struct Killed {};

class DatabaseMonitorTest : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        if (!can_time_syncs(folder.path("")))
            GTEST_SKIP() << "the temporary folder is not on ext4";
        file = UniqueFd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    }
    void TearDown() override {
        monitor.reset();
        root.reset();
    }

    // Another process has the database locked for a while, if there is somebody to count it.
    void event() {
        if (!counting)
            return;
        std::array<int, 2> ends{};
        ASSERT_EQ(::pipe(ends.data()), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            const bool locked = ask(F_WRLCK);
            if (::write(ends[1], "x", 1) != 1 || !locked)
                ::_exit(1);
            std::this_thread::sleep_for(held);
            ::_exit(0);
        }
        char byte = 0;
        EXPECT_EQ(::read(ends[0], &byte, 1), 1);
        const auto begin = Clock::now();
        EXPECT_FALSE(ask(F_WRLCK));
        while (!ask(F_WRLCK))
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        waited += std::chrono::duration<double>(Clock::now() - begin).count();
        EXPECT_TRUE(ask(F_UNLCK));
        ::close(ends[0]);
        ::close(ends[1]);
        ::waitpid(child, nullptr, 0);
    }
    bool ask(short type) const {
        struct flock lock{.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1, .l_pid = 0};
        return ::fcntl(file.get(), F_SETLK, &lock) == 0;
    }
    void write() {
        ArchiveWriter writer;
        monitor->save(writer);
        state.assign(writer.bytes().begin(), writer.bytes().end());
    }
    // Between any two steps of a process something is waited for; its end may come there.
    void step() {
        event();
        if (steps_to_live && (*steps_to_live)-- == 0)
            throw Killed{};
    }
    void start(const PangolinDatabase& database, bool resumes = true) {
        monitor.reset();
        root.reset();
        root.emplace(PinRoot::open(pin_dir).value());
        monitor = std::make_unique<DatabaseMonitor>(database, [this] { return find(); });
        if (!state.empty()) {
            ArchiveReader reader(state);
            monitor->restore(reader);
        }
        step();
        monitor->attach({.pins = &*root,
                         .write_state =
                             [this] {
                                 step();
                                 write();
                                 step();
                             },
                         .resumes = resumes});
        counting = std::holds_alternative<SqliteDatabase>(database);
        step();
        write();
        step();
    }
    std::optional<PangolinProcess> find() const {
        return PangolinProcess{.pid = ::getpid(),
                               .start_time = process_start_time(::getpid()).value(),
                               .netns = {.id = network_namespace_of(::getpid()).value(),
                                         .path = "/proc/self/ns/net",
                                         .name = "own"},
                               .cgroup = ""};
    }
    // False when it was killed.
    bool live(const PangolinDatabase& database, unsigned steps) {
        steps_to_live = steps;
        bool lives = true;
        try {
            start(database);
        } catch (const Killed&) {
            lives = false;
        }
        monitor.reset();
        steps_to_live.reset();
        return lives;
    }
    double published() const {
        Snapshot snapshot;
        monitor->describe(snapshot);
        return snapshot.host.database_wait_seconds.value_or(-1);
    }
    // In the kernel it takes a little less than by the caller's clock; a single wait is much longer.
    void expect(double least, double most) const {
        EXPECT_LE(published(), most);
        EXPECT_GE(published(), least - 0.5 * std::chrono::duration<double>(held).count());
    }
    void expect_all() const { expect(waited, waited); }

    static constexpr std::chrono::milliseconds held{50};
    const ScratchPins pins{"monitor"};
    const std::string& pin_dir = pins.path();
    ScratchFolder folder;
    const std::string path = folder.path("db.sqlite");
    const PangolinDatabase sqlite = SqliteDatabase{path};
    UniqueFd file;
    std::optional<PinRoot> root;
    std::unique_ptr<DatabaseMonitor> monitor;
    std::vector<std::uint8_t> state;
    std::optional<unsigned> steps_to_live;
    bool counting = false;
    double waited = 0;
};

TEST_F(DatabaseMonitorTest, CountsOnAfterItsEnd) {
    start(sqlite);
    event();
    expect_all();
    const double before = published();
    monitor.reset();
    event();
    start(sqlite);
    EXPECT_GT(published(), before);
    event();
    expect_all();
}

TEST_F(DatabaseMonitorTest, MayBeKilledAnywhereWhileItTakesOver) {
    constexpr unsigned most_steps = 20;
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        waited = 0;
        counting = false;
        state.clear();
        start(sqlite, false);
        const bool lives = live(sqlite, steps);
        event();
        start(sqlite);
        expect_all();
        if (lives)
            return;
    }
    FAIL() << "a process takes more steps";
}

// To a PostgreSQL: what was waited for the SQLite database stays, and is the old programs' last.
TEST_F(DatabaseMonitorTest, MayBeKilledAnywhereOnTheWayToAnotherDatabase) {
    constexpr unsigned most_steps = 20;
    const PangolinDatabase postgres = PostgresDatabase{1};
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        waited = 0;
        counting = false;
        state.clear();
        start(sqlite, false);
        const double before = waited;
        const bool lives = live(postgres, steps);
        counting = false;
        start(postgres);
        expect(before, waited);
        const double last = published();
        for (const PinnedPrograms& each : list_pinned(pin_dir))
            EXPECT_EQ(each.name, "postgres_waits");
        waited = last;
        start(sqlite);
        event();
        expect_all();
        if (lives)
            return;
    }
    FAIL() << "a process takes more steps";
}

TEST_F(DatabaseMonitorTest, TheTotalGoesOnWithoutTheMaps) {
    start(sqlite);
    event();
    write();
    const double before = published();
    monitor.reset();
    root.reset();
    ASSERT_TRUE(detach_all(pin_dir));
    waited = before;
    counting = false;
    start(sqlite, false);
    event();
    expect_all();
}

}  // namespace
}  // namespace pangolin
