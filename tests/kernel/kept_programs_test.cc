// What is counted once stays counted once, wherever a process may be killed while it takes over from another.
// The "program" is a pinned map that the test counts in, for an event is the test's to make.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>

#include "loader/base/unique_fd.h"
#include "loader/pinned_maps.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_pins.h"
#include "userspace/keeping.h"

namespace pangolin {
namespace {

constexpr std::string_view map_name = "kept_test_counts";
constexpr std::uint32_t first = 0;

std::uint64_t value_of(int map) {
    std::uint64_t value = 0;
    bpf_map_lookup_elem(map, &first, &value);
    return value;
}

struct Killed {};

// What there is beside processes: the kernel, and the file that they write down.
class World {
  public:
    struct File {
        std::string written;
        std::uint64_t credited = 0;
        std::uint64_t total = 0;
    };

    // Anything may happen between two steps of a process: an event always does, its end may.
    void step() {
        event();
        if (steps_to_live && (*steps_to_live)-- == 0)
            throw Killed{};
    }
    // Counted where the program that is attached counts, as long as that is pinned.
    void event() {
        if (!active)
            return;
        ++events;
        const UniqueFd map = active->open(map_name);
        const std::uint64_t value = value_of(map.get()) + 1;
        missed += !map || bpf_map_update_elem(map.get(), &first, &value, BPF_ANY) != 0;
    }

    File file;
    std::optional<PinFolder> active;
    std::uint64_t events = 0;
    std::uint64_t missed = 0;
    std::optional<unsigned> steps_to_live;
};

struct TestProgram {
    World* world;
    PinFolder folder;
    bool starts;

    Result<void> start() {
        world->step();
        if (!starts)
            return failure("the kernel refuses it");
        world->active = folder;
        world->step();
        return {};
    }
};

// One process, which counts for a while in maps with as much `room`.
class Process {
  public:
    Process(World& world, const std::string& root, std::uint32_t room, bool starts = true)
        : world_(world), room_(room), starts_(starts), root_(PinRoot::open(root).value()), now_(world.file) {
        kept_.restore(now_.written);
        keeping_.pins = &root_;
        keeping_.write_state = [this] { write(); };
    }

    void run() {
        const auto program = kept_.start<TestProgram>(
            keeping_, [this](const std::optional<KeptPins>& pins) { return load(*pins); },
            [this](const PinFolder& pins) { credit(pins); }, [this] { restart(); });
        EXPECT_EQ(program.has_value(), starts_);
        for (int poll = 0; program && poll < 2; ++poll) {
            credit(program->folder);
            write();
        }
    }

    void end() {
        kept_.end(keeping_, [this](const PinFolder& pins) { credit(pins); }, [this] { restart(); });
    }

    std::uint64_t total() const { return now_.total; }

  private:
    Result<TestProgram> load(const KeptPins& pins) {
        world_.step();
        if (pins.folder.exists()) {
            const UniqueFd map = pins.folder.open(map_name);
            bpf_map_info info{};
            std::uint32_t size = sizeof info;
            if (!map || bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0 || info.max_entries < room_)
                return failure("no room", {}, ESTALE);
            return TestProgram{&world_, pins.folder, starts_};
        }
        const UniqueFd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "kept_test", sizeof first,
                                          sizeof(std::uint64_t), room_, nullptr));
        EXPECT_TRUE(pins.folder.create());
        world_.step();
        EXPECT_TRUE(pins.folder.pin(map.get(), map_name));
        world_.step();
        return TestProgram{&world_, pins.folder, starts_};
    }
    void credit(const PinFolder& pins) {
        world_.step();
        const UniqueFd map = open_pinned_map(pins, map_name, sizeof first, sizeof(std::uint64_t));
        if (map) {
            const std::uint64_t counted = value_of(map.get());
            now_.total += counted - now_.credited;
            now_.credited = counted;
        }
        world_.step();
    }
    void restart() {
        world_.step();
        now_.credited = 0;
    }
    void write() {
        world_.step();
        now_.written = kept_.written();
        world_.file = now_;
        world_.step();
    }

    World& world_;
    std::uint32_t room_;
    bool starts_;
    PinRoot root_;
    MonitorKeeping keeping_;
    KeptPrograms kept_{"kept_test"};
    World::File now_;
};

class KeptProgramsTest : public testing::Test {
  protected:
    void SetUp() override { PANGOLIN_REQUIRE_ROOT(); }

    // Returns false when it was killed on the way.
    bool live(std::uint32_t room, std::optional<unsigned> steps, bool starts = true) {
        world_.steps_to_live = steps;
        try {
            Process(world_, root_, room, starts).run();
        } catch (const Killed&) {
            return false;
        }
        return true;
    }
    // By a process that nobody kills, at a moment without events.
    void expect_every_event_once(std::uint32_t room) {
        EXPECT_TRUE(live(room, std::nullopt));
        world_.active.reset();
        Process last(world_, root_, room);
        last.end();
        EXPECT_EQ(world_.missed, 0U);
        EXPECT_EQ(last.total(), world_.events);
        EXPECT_EQ(PinFolder(root_).below(pin_layout).entries().size(), 0U);
    }
    // A first process that counts, as all cases begin.
    void begin() {
        world_ = {};
        ASSERT_TRUE(live(1, std::nullopt));
        world_.event();
    }

    const ScratchPins pins_{"kept"};
    const std::string& root_ = pins_.path();
    World world_;
};

// More than a process takes.
constexpr unsigned most_steps = 60;

TEST_F(KeptProgramsTest, AFirstProcessMayBeKilledAnywhere) {
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        world_ = {};
        const bool ended = live(1, steps);
        expect_every_event_once(1);
        if (ended)
            return;
    }
    FAIL() << "a process takes more steps";
}

TEST_F(KeptProgramsTest, TheNextOneMayBeKilledAnywhereInTheSameMaps) {
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        begin();
        const bool ended = live(1, steps);
        expect_every_event_once(1);
        if (ended)
            return;
    }
    FAIL() << "a process takes more steps";
}

// Somebody has removed what was pinned, and the state tells of it.
TEST_F(KeptProgramsTest, MapsThatAreGoneAreNotTakenForNewOnes) {
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        begin();
        world_.active.reset();
        PinFolder(root_).below(world_.file.written).remove();
        world_.events = world_.file.total;
        const bool ended = live(1, steps);
        expect_every_event_once(1);
        if (ended)
            return;
    }
    FAIL() << "a process takes more steps";
}

// Two at a time: what the one left half done, the other one finds, and leaves half done as well.
TEST_F(KeptProgramsTest, TwoMayBeKilledAnywhereOnTheWayToMoreRoom) {
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        bool first_ended = false;
        for (unsigned next = 0; next < most_steps; ++next) {
            SCOPED_TRACE(std::to_string(steps) + ", then " + std::to_string(next));
            begin();
            first_ended = live(2, steps);
            const bool ended = live(3, next);
            expect_every_event_once(3);
            if (ended)
                break;
        }
        if (first_ended)
            return;
    }
    FAIL() << "a process takes more steps";
}

// There is nothing to count with from then on; what was counted before is neither lost nor doubled.
TEST_F(KeptProgramsTest, WhatTheKernelRefusesEndsTheOneBefore) {
    for (unsigned steps = 0; steps < most_steps; ++steps) {
        SCOPED_TRACE(steps);
        begin();
        const std::uint64_t before = world_.events;
        const bool ended = live(2, steps, false);
        EXPECT_TRUE(live(2, std::nullopt, false));
        EXPECT_GE(world_.file.total, before);
        EXPECT_LE(world_.file.total, world_.events);
        EXPECT_EQ(PinFolder(root_).below(pin_layout).entries().size(), 0U);
        if (ended)
            return;
    }
    FAIL() << "a process takes more steps";
}

}  // namespace
}  // namespace pangolin
