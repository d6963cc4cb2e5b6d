#include "userspace/backend_checks.h"

#include <gtest/gtest.h>

#include <string>

namespace pangolin::test {
namespace {

constexpr std::chrono::steady_clock::time_point now{std::chrono::hours(1)};

struct Row {
    const char* what;
    SiteType type;
    bool up;
    bool checked;
    TargetHealth health;
    bool enabled;
    // What connections show.
    std::optional<bool> observed;
    std::optional<bool> expected;
};

TEST(BackendChecks, PangolinsCheckGoesBeforeConnectionsWhileTheTunnelIsUp) {
    constexpr auto newt = SiteType::newt;
    constexpr auto local = SiteType::local;
    constexpr auto well = TargetHealth::healthy;
    constexpr auto ill = TargetHealth::unhealthy;
    const Row rows[] = {
        {"healthy", newt, true, true, well, true, false, true},
        {"unhealthy", newt, true, true, ill, true, true, false},
        {"no check", newt, true, false, ill, true, true, true},
        {"not checked yet", newt, true, true, TargetHealth::unknown, true, true, true},
        {"tunnel down, nobody tries", newt, false, true, well, true, std::nullopt, std::nullopt},
        {"tunnel down, tried in vain", newt, false, true, well, true, false, false},
        {"local", local, false, true, ill, true, true, false},
        {"disabled", newt, true, true, ill, false, true, true},
    };
    for (const Row& row : rows) {
        SiteDirectory directory;
        Site& site = directory.sites.emplace_back();
        site.site_id = "home";
        site.type = row.type;
        directory.resources.emplace_back();
        Target& target = directory.targets.emplace_back();
        target.site = 0;
        target.dialled = TargetAddress::make("10.0.0.1", 80);
        target.enabled = row.enabled;
        target.health_checked = row.checked;
        target.health = row.health;
        Ledger ledger;
        BackendChecks checks;
        checks.follow(directory, ledger);
        ledger.begin_poll();
        if (row.up)
            ledger.sites.of("home")->saw_up({});
        BackendAccount& backend = *ledger.resources.backend("home", "10.0.0.1:80");
        if (row.observed)
            backend.observe(*row.observed ? 1 : 0, *row.observed ? 0 : 1, 0, now);
        checks.apply();
        ledger.end_poll(now);
        EXPECT_EQ(backend.healthy, row.expected) << row.what;
    }
}

TEST(BackendChecks, OfTwoChecksOfOneBackendTheWorseCounts) {
    SiteDirectory directory;
    directory.sites.emplace_back().type = SiteType::local;
    directory.resources.emplace_back();
    for (const TargetHealth health :
         {TargetHealth::healthy, TargetHealth::unhealthy, TargetHealth::healthy}) {
        Target& target = directory.targets.emplace_back();
        target.site = 0;
        target.dialled = TargetAddress::make("10.0.0.1", 80);
        target.health_checked = true;
        target.health = health;
    }
    Ledger ledger;
    BackendChecks checks;
    checks.follow(directory, ledger);
    const auto poll = [&] {
        ledger.begin_poll();
        checks.apply();
        ledger.end_poll(now);
        return ledger.resources.backend("", "10.0.0.1:80")->healthy;
    };
    EXPECT_EQ(poll(), false);
    directory.targets[1].health = TargetHealth::healthy;
    checks.follow(directory, ledger);
    EXPECT_EQ(poll(), true);
}

}  // namespace
}  // namespace pangolin::test
