// TCP statistics and packet drops of slots on their way into the ledger.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>

#include "userspace/drop_accounting.h"
#include "userspace/slot_accounts.h"
#include "userspace/tcp_accounting.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr TimePoint start{1000s};
constexpr std::uint32_t slot = TRAFFIC_FIRST_PEER_SLOT;
constexpr std::uint32_t other_slot = slot + 1;

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

SlotTcpCounts tcp(std::uint32_t of, std::uint64_t refused, std::uint64_t round_trips = 0) {
    SlotTcpCounts counts{.slot = of};
    counts.counts.connections[TCP_RESULT_REFUSED] = refused;
    counts.counts.retransmits = 2 * refused;
    counts.counts.rtt.bucket[3] = round_trips;
    counts.counts.rtt.sum_us = 100 * round_trips;
    return counts;
}

std::uint64_t refused(const SiteAccount& account) {
    const auto health = const_cast<SiteAccount&>(account).share_health();
    return health ? health->tcp_connections[TCP_RESULT_REFUSED] : 0;
}

// Two peers, of which one's site is known.
class PeerAccountingTest : public testing::Test {
  protected:
    PeerAccountingTest() {
        peers.restore(key(1), slot).account = site;
        peers.restore(key(2), other_slot);
    }

    SlotAccounts accounts(bool last = false) { return accounts_of(peers, ledger, last); }

    SiteLedger ledger;
    std::shared_ptr<SiteAccount> site = ledger.of("site");
    std::shared_ptr<SiteAccount> unassigned = ledger.of(unassigned_site_id);
    PeerTable peers{8};
};

TEST_F(PeerAccountingTest, CreditsWhatGrew) {
    TcpAccounting accounting;
    accounting.credit(std::array{tcp(slot, 3)}, accounts(), start);
    EXPECT_FALSE(site->last_tcp_latency);
    accounting.credit(std::array{tcp(slot, 3), tcp(TRAFFIC_SLOT_UNMATCHED, 7)}, accounts(), start);
    accounting.credit(std::array{tcp(slot, 5, 1)}, accounts(), start + 1s);
    EXPECT_EQ(refused(*site), 5U);
    EXPECT_EQ(refused(*unassigned), 7U);
    EXPECT_EQ(site->share_health()->tcp_retransmits, 10U);
    EXPECT_EQ(site->last_tcp_latency, start + 1s);
}

TEST_F(PeerAccountingTest, WaitsForTheSiteUntilTheLastTime) {
    TcpAccounting accounting;
    const std::array counts{tcp(other_slot, 4)};
    accounting.credit(counts, accounts(), start);
    EXPECT_EQ(refused(*unassigned), 0U);
    peers.find(key(2))->account = ledger.of("late");
    accounting.credit(counts, accounts(), start);
    EXPECT_EQ(refused(*ledger.of("late")), 4U);
    peers.find(key(2))->account = nullptr;
    accounting.credit(std::array{tcp(other_slot, 6)}, accounts(true), start);
    EXPECT_EQ(refused(*ledger.of("late")), 4U);
    EXPECT_EQ(refused(*unassigned), 2U);
}

TEST_F(PeerAccountingTest, LeavesWhatNoPeerHas) {
    TcpAccounting accounting;
    accounting.credit(std::array{tcp(other_slot + 1, 4)}, accounts(true), start);
    EXPECT_EQ(refused(*site) + refused(*unassigned), 0U);
    EXPECT_THAT(accounting.save(), IsEmpty());
}

TEST_F(PeerAccountingTest, AForgottenSlotBeginsAtZero) {
    TcpAccounting accounting;
    accounting.credit(std::array{tcp(slot, 3)}, accounts(), start);
    accounting.forget(slot);
    accounting.credit(std::array{tcp(slot, 2)}, accounts(), start);
    EXPECT_EQ(refused(*site), 5U);
    accounting.restart();
    accounting.credit(std::array{tcp(slot, 2)}, accounts(), start);
    EXPECT_EQ(refused(*site), 7U);
}

TEST_F(PeerAccountingTest, AnotherProcessGoesOn) {
    TcpAccounting before;
    before.credit(std::array{tcp(slot, 3, 2)}, accounts(), start);
    TcpAccounting after;
    after.restore(before.save());
    after.credit(std::array{tcp(slot, 4, 2)}, accounts(), start + 1s);
    EXPECT_EQ(refused(*site), 4U);
    EXPECT_EQ(site->last_tcp_latency, start);
}

class DropAccountingTest : public PeerAccountingTest {
  protected:
    enum Reason : std::uint32_t { unspecified = 2, netfilter = 7, purged = 9 };

    static DropCount drop(drop_key key, std::uint64_t packets) { return {.key = key, .packets = packets}; }
    void credit(const DropCount& count) { accounting.credit(std::array{count}, reasons, accounts()); }
    std::vector<std::string> drops(SiteAccount& account) {
        std::vector<std::string> lines;
        if (const auto health = account.share_health())
            for (const PacketDrops& each : health->packet_drops)
                lines.push_back((each.direction == TRAFFIC_INGRESS ? "in " : "out ") + each.reason + " " +
                                std::to_string(each.packets));
        return lines;
    }

    const DropReasons reasons{
        std::vector<std::pair<std::string, std::uint32_t>>{{"SKB_CONSUMED", 1},
                                                           {"SKB_DROP_REASON_NOT_SPECIFIED", unspecified},
                                                           {"SKB_DROP_REASON_NETFILTER_DROP", netfilter},
                                                           {"SKB_DROP_REASON_QUEUE_PURGE", purged},
                                                           {"SKB_DROP_REASON_SUBSYS_MASK", 0xffff0000}}};
    DropAccounting accounting;
};

TEST_F(DropAccountingTest, NamesWhereAndWhy) {
    credit(drop({slot, netfilter, TRAFFIC_INGRESS, DROP_IN_TUNNEL}, 3));
    credit(drop({slot, netfilter, TRAFFIC_INGRESS, DROP_IN_UNDERLAY}, 4));
    credit(drop({slot, unspecified, TRAFFIC_EGRESS, DROP_IN_WIREGUARD}, 5));
    credit(drop({slot, unspecified, TRAFFIC_INGRESS, DROP_IN_WIREGUARD}, 6));
    credit(drop({slot, 55, TRAFFIC_EGRESS, DROP_IN_TUNNEL}, 7));
    EXPECT_THAT(drops(*site), ElementsAre("in netfilter_drop 3", "in underlay_netfilter_drop 4",
                                          "out wireguard_no_endpoint 5", "in wireguard_not_specified 6",
                                          "out reason_55 7"));
}

// The FIN of a closed connection; and packets for an address without a peer, which others count.
TEST_F(DropAccountingTest, LeavesOutWhatIsNoneOrCountedElsewhere) {
    credit(drop({slot, purged, TRAFFIC_INGRESS, DROP_IN_TUNNEL}, 3));
    credit(drop({TRAFFIC_SLOT_UNMATCHED, unspecified, TRAFFIC_EGRESS, DROP_IN_WIREGUARD}, 5));
    EXPECT_THAT(drops(*site), IsEmpty());
    EXPECT_THAT(drops(*unassigned), IsEmpty());
    const drop_key in_tunnel{TRAFFIC_SLOT_UNMATCHED, unspecified, TRAFFIC_EGRESS, DROP_IN_TUNNEL};
    accounting.set_wireguard_unknown(true);
    credit(drop(in_tunnel, 2));
    EXPECT_THAT(drops(*unassigned), IsEmpty());
    accounting.set_wireguard_unknown(false);
    credit(drop(in_tunnel, 3));
    EXPECT_THAT(drops(*unassigned), ElementsAre("out not_specified 1"));
}

TEST_F(DropAccountingTest, AForgottenSlotBeginsAtZeroAndOthersDoNot) {
    const drop_key key{slot, netfilter, TRAFFIC_INGRESS, DROP_IN_TUNNEL};
    const drop_key kept{TRAFFIC_SLOT_UNMATCHED, netfilter, TRAFFIC_INGRESS, DROP_IN_TUNNEL};
    credit(drop(key, 3));
    credit(drop(kept, 3));
    accounting.forget([](std::uint32_t of) { return of == slot; });
    credit(drop(key, 2));
    credit(drop(kept, 4));
    EXPECT_THAT(drops(*site), ElementsAre("in netfilter_drop 5"));
    EXPECT_THAT(drops(*unassigned), ElementsAre("in netfilter_drop 4"));
}

TEST_F(DropAccountingTest, AnotherProcessGoesOn) {
    const drop_key key{slot, netfilter, TRAFFIC_EGRESS, DROP_IN_TUNNEL};
    credit(drop(key, 3));
    DropAccounting after;
    after.restore(accounting.save());
    after.credit(std::array{drop(key, 8)}, reasons, accounts());
    EXPECT_THAT(drops(*site), ElementsAre("out netfilter_drop 8"));
}

}  // namespace
}  // namespace pangolin
