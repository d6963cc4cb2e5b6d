#include "userspace/accounts/session_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>

#include "tests/support/random_seed.h"

namespace pangolin {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr std::int64_t now = 1'000'000;

Session session(std::uint64_t key, std::uint64_t principal, AuthMethod method = AuthMethod::password,
                std::int64_t expires_at = now + 1000, std::uint64_t parent = 0) {
    return {key, principal, parent, expires_at, method};
}

class SessionLedgerTest : public testing::Test {
  protected:
    void update(std::vector<Session> users, std::vector<Session> resources = {},
                std::vector<Session> newts = {}, std::int64_t time = now) {
        SessionReading reading;
        reading[static_cast<std::size_t>(SessionKind::user)] = std::move(users);
        reading[static_cast<std::size_t>(SessionKind::resource)] = std::move(resources);
        reading[static_cast<std::size_t>(SessionKind::newt)] = std::move(newts);
        ledger.update(std::move(reading), time, counts);
    }
    std::uint64_t active(AuthMethod method) const { return counts.active[static_cast<std::size_t>(method)]; }
    std::uint64_t issued(AuthMethod method) const { return counts.issued[static_cast<std::size_t>(method)]; }

    SessionLedger ledger;
    AccountCounts counts;
};

TEST_F(SessionLedgerTest, TheFirstReadingIsHowThingsAre) {
    update({session(1, 10), session(2, 10), session(3, 11, AuthMethod::oidc)},
           {session(4, 4, AuthMethod::pincode), session(5, 5, AuthMethod::pincode)},
           {session(6, 20, AuthMethod::newt), session(7, 20, AuthMethod::newt)});
    EXPECT_EQ(active(AuthMethod::password), 1U);
    EXPECT_EQ(active(AuthMethod::oidc), 1U);
    EXPECT_EQ(active(AuthMethod::pincode), 2U);
    EXPECT_EQ(active(AuthMethod::newt), 1U);
    EXPECT_EQ(counts.user_sessions, 3U);
    EXPECT_THAT(counts.issued, Each(0U));
    EXPECT_THAT(counts.ended, Each(0U));
}

TEST_F(SessionLedgerTest, NewOnesAreIssuedAndLaterTimesAreRefreshes) {
    update({session(5, 10)});
    update({session(5, 10), session(1, 11, AuthMethod::oidc), session(9, 10)});
    EXPECT_EQ(issued(AuthMethod::password), 1U);
    EXPECT_EQ(issued(AuthMethod::oidc), 1U);
    EXPECT_EQ(counts.refreshed, 0U);
    update(
        {session(5, 10, AuthMethod::password, now + 5000), session(1, 11, AuthMethod::oidc), session(9, 10)});
    EXPECT_EQ(counts.refreshed, 1U);
    EXPECT_THAT(counts.ended, Each(0U));
}

// {logout, expired, removed}
TEST_F(SessionLedgerTest, HowSessionsEnd) {
    const std::vector<Session> users{session(1, 10), session(2, 10), session(3, 11), session(4, 12)};
    const std::vector<Session> resources{session(21, 21, AuthMethod::sso, now + 1000, 1),
                                         session(22, 22, AuthMethod::sso, now + 1000, 3),
                                         session(23, 23, AuthMethod::pincode)};
    update(users, resources, {session(31, 30, AuthMethod::newt)});
    // One of a user's, with the session at a resource that came from it.
    update({users[1], users[2], users[3]}, {resources[1], resources[2]}, {session(31, 30, AuthMethod::newt)});
    EXPECT_THAT(counts.ended, ElementsAre(2, 0, 0));
    // A resource's alone, and a newt's.
    update({users[1], users[2], users[3]}, {resources[1]}, {});
    EXPECT_THAT(counts.ended, ElementsAre(2, 0, 2));
    // In due time, seen later.
    update({}, {}, {}, now + 1000);
    EXPECT_THAT(counts.ended, ElementsAre(2, 4, 2));
    EXPECT_EQ(counts.user_sessions, 0U);
}

TEST_F(SessionLedgerTest, AllOfAUsersAtOnceAreRemoved) {
    update({session(1, 10), session(2, 10)}, {session(21, 21, AuthMethod::sso, now + 1000, 1)});
    update({});
    EXPECT_THAT(counts.ended, ElementsAre(0, 0, 3));
}

TEST_F(SessionLedgerTest, ATableThatComesLaterHasItsFirstReadingThen) {
    SessionReading nothing;
    ledger.update(nothing, now, counts);
    update({session(1, 10)});
    EXPECT_THAT(counts.issued, Each(0U));
    ledger.update(nothing, now, counts);
    EXPECT_THAT(counts.ended, Each(0U));
    EXPECT_EQ(active(AuthMethod::password), 0U);
    update({session(2, 10)});
    EXPECT_THAT(counts.issued, Each(0U));
}

// Whatever happens, what is there is what was there, and what came, less what went.
TEST_F(SessionLedgerTest, TheBooksBalance) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(test::random_seed());
    std::map<std::uint64_t, Session> sessions;
    std::uint64_t next = 1;
    for (int round = 0; round < 200; ++round) {
        for (auto count = random() % 5; count > 0; --count)
            sessions.emplace(next, session(next * 0x9e3779b97f4a7c15ULL, random() % 5)), ++next;
        std::erase_if(sessions, [&](const auto&) { return random() % 10 == 0; });
        std::vector<Session> list;
        std::set<std::uint64_t> users;
        for (const auto& [number, each] : sessions) {
            list.push_back(each);
            users.insert(each.principal);
        }
        const std::size_t before = counts.user_sessions;
        const AccountCounts last = counts;
        update(list);
        EXPECT_EQ(active(AuthMethod::password), users.size());
        if (round > 0) {
            const std::uint64_t ended = counts.ended[0] + counts.ended[1] + counts.ended[2] - last.ended[0] -
                                        last.ended[1] - last.ended[2];
            EXPECT_EQ(counts.user_sessions, before + issued(AuthMethod::password) - last.issued[0] - ended);
        }
    }
}

}  // namespace
}  // namespace pangolin
