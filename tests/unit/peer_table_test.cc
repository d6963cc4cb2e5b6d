#include "userspace/peer_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pangolin {
namespace {

using namespace std::chrono_literals;

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

WireGuardPeer peer(std::uint8_t number, const std::vector<std::string>& allowed_ips = {}) {
    WireGuardPeer result;
    result.public_key = key(number);
    for (const std::string& text : allowed_ips)
        result.allowed_ips.push_back(IpPrefix::parse(text).value());
    return result;
}

WireGuardDevice device(std::vector<WireGuardPeer> peers) {
    WireGuardDevice result;
    result.peers = std::move(peers);
    return result;
}

std::vector<std::uint32_t> retire(PeerTable& table) {
    std::vector<std::uint32_t> slots;
    table.retire_unseen([&](const TrackedPeer& gone) { slots.push_back(gone.slot); });
    return slots;
}

TEST(PeerTable, GivesEachPeerASlotOfItsOwn) {
    PeerTable table(10);
    EXPECT_TRUE(table.update(device({peer(1, {"10.0.0.1"}), peer(2, {"10.0.0.2"})})));
    ASSERT_NE(table.find(key(1)), nullptr);
    ASSERT_NE(table.find(key(2)), nullptr);
    EXPECT_NE(table.find(key(1))->slot, table.find(key(2))->slot);
    EXPECT_NE(table.find(key(1))->slot, TRAFFIC_SLOT_UNMATCHED);
    EXPECT_EQ(table.at_slot(table.find(key(2))->slot), table.find(key(2)));
    EXPECT_EQ(table.slots_needed(), 3U);
}

TEST(PeerTable, SaysWhenRoutesHaveChanged) {
    PeerTable table(10);
    EXPECT_TRUE(table.update(device({})));
    EXPECT_FALSE(table.update(device({})));
    EXPECT_TRUE(table.update(device({peer(1, {"10.0.0.0/30"})})));
    EXPECT_FALSE(table.update(device({peer(1, {"10.0.0.0/30"})})));
    EXPECT_TRUE(table.update(device({peer(1, {"10.0.0.0/31"})})));
    EXPECT_TRUE(table.update(device({peer(1, {"10.0.0.0/31", "fd00::/64"})})));
    EXPECT_TRUE(table.update(device({peer(1, {"fd00::/64"})})));
    EXPECT_TRUE(table.update(device({peer(1), peer(2, {"fd00::/64"})})));
}

TEST(PeerTable, KeepsASlotUntilItsPeerIsRetired) {
    PeerTable table(10);
    table.update(device({peer(1, {"10.0.0.1"})}));
    const std::uint32_t first = table.find(key(1))->slot;
    // newt's restart: another key for the same address, in one step.
    EXPECT_TRUE(table.update(device({peer(2, {"10.0.0.1"})})));
    const std::uint32_t second = table.find(key(2))->slot;
    EXPECT_NE(second, first);
    EXPECT_THAT(retire(table), testing::ElementsAre(first));
    EXPECT_EQ(table.find(key(1)), nullptr);
    EXPECT_EQ(table.at_slot(first), nullptr);
    table.update(device({peer(2, {"10.0.0.1"}), peer(3)}));
    EXPECT_EQ(table.find(key(3))->slot, first) << "a released slot is used again";
}

TEST(PeerTable, RefusesPeersBeyondTheLimitAndTakesThemWhenThereIsRoom) {
    PeerTable table(1);
    table.update(device({peer(1, {"10.0.0.1"}), peer(2, {"10.0.0.2"})}));
    retire(table);
    EXPECT_EQ(table.find(key(2)), nullptr);
    EXPECT_EQ(table.refused(), 1U);
    EXPECT_EQ(table.routes(device({peer(1, {"10.0.0.1"}), peer(2, {"10.0.0.2"})})).size(), 1U);
    table.update(device({peer(1, {"10.0.0.1"}), peer(2, {"10.0.0.2"})}));
    EXPECT_EQ(table.refused(), 1U) << "the same peer is counted once";

    table.update(device({peer(2, {"10.0.0.2"})}));
    EXPECT_THAT(retire(table), testing::SizeIs(1));
    EXPECT_TRUE(table.update(device({peer(2, {"10.0.0.2"})}))) << "its route was not in force before";
    EXPECT_NE(table.find(key(2)), nullptr);
}

TEST(PeerTable, TellsWhoIsGone) {
    PeerTable table(10);
    table.update(device({peer(1, {"10.0.0.1"}), peer(2, {"10.0.0.2"})}));
    EXPECT_TRUE(table.unseen().empty());
    table.update(device({peer(2, {"10.0.0.2"})}));
    ASSERT_EQ(table.unseen().size(), 1U);
    EXPECT_EQ(table.unseen()[0], table.find(key(1)));
}

TEST(PeerTable, RoutesLeadToSlots) {
    PeerTable table(10);
    const WireGuardDevice two = device({peer(1, {"10.0.0.0/24", "fd00::/64"}), peer(2, {"10.0.0.7"})});
    table.update(two);
    const RouteTable routes = RouteTable::compile(table.routes(two));
    EXPECT_EQ(routes.find(IpAddress::parse("10.0.0.6").value()), table.find(key(1))->slot);
    EXPECT_EQ(routes.find(IpAddress::parse("10.0.0.7").value()), table.find(key(2))->slot);
    EXPECT_EQ(routes.find(IpAddress::parse("fd00::1").value()), table.find(key(1))->slot);
}

TEST(TrackedPeer, IsUpByHandshakeOrByPacketsAfterOne) {
    const PollTime now = PollTime::now();
    const auto wall_ns = [&](std::chrono::seconds age) {
        return std::chrono::duration_cast<std::chrono::nanoseconds>((now.wall - age).time_since_epoch())
            .count();
    };
    TrackedPeer never;
    EXPECT_FALSE(never.up(now));
    never.last_packet = now.steady;
    EXPECT_FALSE(never.up(now)) << "packets without a handshake are a stranger's";

    TrackedPeer peer;
    peer.last_handshake_ns = wall_ns(179s);
    EXPECT_TRUE(peer.up(now));
    peer.last_handshake_ns = wall_ns(180s);
    EXPECT_FALSE(peer.up(now));
    peer.last_packet = now.steady - 24s;
    EXPECT_TRUE(peer.up(now));
    peer.last_packet = now.steady - 25s;
    EXPECT_FALSE(peer.up(now));
}

}  // namespace
}  // namespace pangolin
