#include "userspace/ledger.h"

#include <gtest/gtest.h>

#include "userspace/departed_sites.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr TimePoint start{1000s};

SiteDirectory directory_of(std::vector<std::string> site_ids) {
    SiteDirectory directory;
    for (std::string& site_id : site_ids)
        directory.sites.emplace_back().site_id = std::move(site_id);
    return directory;
}

// A site with a resource at one backend, and a client.
SiteDirectory full_directory() {
    SiteDirectory directory = directory_of({"home"});
    directory.resources.emplace_back().resource_id = "web";
    Target& target = directory.targets.emplace_back();
    target.site = 0;
    target.dialled = TargetAddress::make("100.89.128.4", 80);
    directory.clients.emplace_back().client_id = "laptop";
    return directory;
}

std::array<std::size_t, 5> sizes(const Ledger& ledger) {
    std::size_t sites = 0;
    ledger.sites.for_each([&](const SiteAccount&) { ++sites; });
    return {sites, ledger.clients.size(), ledger.resources.resources().size(),
            ledger.resources.targets().size(), ledger.resources.backends().size()};
}
constexpr std::array<std::size_t, 5> one_of_each{1, 1, 1, 1, 1};
constexpr std::array<std::size_t, 5> none{};

void make_one_of_each(Ledger& ledger) {
    ledger.sites.of("home");
    ledger.client("laptop");
    ledger.resources.of("home", "web");
    ledger.resources.target("home", "web", "100.89.128.4:80");
    ledger.resources.backend("home", "100.89.128.4:80");
}

TEST(Ledger, ForgetsWhatIsGoneAfterItsTotalsWerePublished) {
    Ledger ledger;
    make_one_of_each(ledger);
    const SiteDirectory nothing;
    ledger.forget_unused(nothing, {.now = start, .published = start - 1s});
    ledger.forget_unused(nothing, {.now = start + 1h - 1s, .published = start - 1s});
    EXPECT_EQ(sizes(ledger), one_of_each) << "nobody has seen the last totals";
    ledger.forget_unused(nothing, {.now = start + account_lifetime - 1s, .published = start + 1s});
    EXPECT_EQ(sizes(ledger), one_of_each);
    ledger.forget_unused(nothing, {.now = start + account_lifetime, .published = start + 1s});
    EXPECT_EQ(sizes(ledger), none);
}

TEST(Ledger, DoesNotWaitForeverForSomebodyToLook) {
    Ledger ledger;
    make_one_of_each(ledger);
    const SiteDirectory nothing;
    ledger.forget_unused(nothing, {.now = start, .published = {}});
    ledger.forget_unused(nothing, {.now = start + longest_account_lifetime, .published = {}});
    EXPECT_EQ(sizes(ledger), none);
}

TEST(Ledger, KeepsWhatTheDirectoryHas) {
    Ledger ledger;
    make_one_of_each(ledger);
    ledger.resources.of("home", "gone");
    ledger.resources.target("home", "web", "100.89.128.4:81");
    ledger.resources.backend("home", "100.89.128.4:81");
    ledger.client("gone");
    ledger.sites.of("gone");
    ledger.sites.of(unassigned_site_id);
    for (const auto later : {0s, 3600s})
        ledger.forget_unused(full_directory(), {.now = start + later, .published = start + later + 1s});
    EXPECT_EQ(sizes(ledger), (std::array<std::size_t, 5>{2, 1, 1, 1, 1}));
}

TEST(Ledger, KeepsWhatSomebodyHolds) {
    Ledger ledger;
    const SiteDirectory nothing;
    auto held = ledger.sites.of("home");
    const auto review = [&](std::chrono::seconds later) {
        ledger.forget_unused(nothing, {.now = start + later, .published = start + later + 1s});
        return sizes(ledger)[0];
    };
    EXPECT_EQ(review(0s), 1U);
    EXPECT_EQ(review(1h), 1U);
    held.reset();
    EXPECT_EQ(review(1h + 1s), 1U) << "its time begins now";
    EXPECT_EQ(review(1h + 1s + account_lifetime), 0U);
}

TEST(Ledger, WhatIsCreditedAgainBeginsItsTimeAnew) {
    Ledger ledger;
    const SiteDirectory nothing;
    ledger.sites.of("home")->had_peer = true;
    ledger.forget_unused(nothing, {.now = start, .published = start + 1s});
    EXPECT_TRUE(ledger.sites.of("home")->had_peer);
    ledger.forget_unused(nothing, {.now = start + account_lifetime, .published = start + 1s});
    EXPECT_TRUE(ledger.sites.of("home")->had_peer);
}

TEST(DepartedSites, AreThoseOfTheDirectoryBefore) {
    SiteLedger ledger;
    DepartedSites departed;
    SiteDirectory before = directory_of({"a", "b"});
    before.sites[0].online = true;
    const SiteDirectory now = directory_of({"b"});
    departed.follow(before, now, ledger, start);
    ASSERT_EQ(departed.sites().size(), 1U);
    EXPECT_EQ(departed.sites()[0].site->site_id, "a");
    EXPECT_EQ(departed.sites()[0].site->online, std::nullopt);
    EXPECT_EQ(departed.sites()[0].account, ledger.of("a"));
    departed.follow(now, before, ledger, start + 1s);
    EXPECT_TRUE(departed.sites().empty()) << "it came back";
    departed.follow(before, now, ledger, start + 2s);
    departed.forget({.now = start + 2s + account_lifetime, .published = start + 2s});
    EXPECT_EQ(departed.sites().size(), 1U) << "not published since";
    departed.forget({.now = start + 1s + account_lifetime, .published = start + 3s});
    EXPECT_EQ(departed.sites().size(), 1U);
    auto holder = ledger.of("a");
    departed.forget({.now = start + 2s + account_lifetime, .published = start + 3s});
    EXPECT_EQ(departed.sites().size(), 1U) << "somebody credits it";
    holder.reset();
    departed.forget({.now = start + 2s + account_lifetime, .published = start + 3s});
    EXPECT_TRUE(departed.sites().empty());
}

}  // namespace
}  // namespace pangolin
