#include "userspace/handshake_accounting.h"

#include <gtest/gtest.h>

#include <utility>

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr TimePoint start{1000s};

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

// Hands out what a test puts in, once, as the kernel's maps do.
class PreparedProbe final : public WireGuardProbe {
  public:
    HandshakeSource source() const override { return HandshakeSource::underlay; }
    std::size_t attachments() const override { return 0; }
    std::string_view hook() const override { return "none"; }
    Result<void> follow(const WireGuardListener&) override { return {}; }
    void set_namespace(const NetworkNamespace&) override {}
    std::vector<handshake> take_handshakes() override { return std::exchange(handshakes, {}); }
    std::vector<HandshakeCount> take_counts() override { return std::exchange(counts, {}); }
    std::vector<QueueDrops> take_queue_drops() override { return std::exchange(drops, {}); }
    HandshakeLosses losses() const override { return {}; }

    std::vector<handshake> handshakes;
    std::vector<HandshakeCount> counts;
    std::vector<QueueDrops> drops;
};

handshake_identity by_key(std::uint8_t number) {
    handshake_identity identity{};
    identity.kind = HANDSHAKE_PUBLIC_KEY;
    std::ranges::copy(key(number).bytes, identity.public_key);
    return identity;
}

handshake_identity by_endpoint(const std::string& text) {
    const Endpoint endpoint = Endpoint::parse(text).value();
    handshake_identity identity{};
    identity.kind = HANDSHAKE_ENDPOINT;
    identity.endpoint.address = {endpoint.address.high, endpoint.address.low};
    identity.endpoint.port = endpoint.port;
    identity.endpoint.is_v6 = endpoint.address.family == IpFamily::v6;
    return identity;
}

handshake success(const handshake_identity& identity, std::uint64_t latency_us) {
    return {.identity = identity,
            .begin_ns = 5000,
            .end_ns = 5000 + latency_us * 1000,
            .role = HANDSHAKE_RESPONDER,
            .result = HANDSHAKE_SUCCESS};
}

class HandshakeAccountingTest : public testing::Test {
  protected:
    void add_peer(std::uint8_t number, const std::string& site) {
        device.peers.emplace_back().public_key = key(number);
        peers.update(device);
        peers.find(key(number))->account = ledger.of(site);
    }
    void credit(TimePoint now, bool sites_known = true) {
        accounting.credit(probe, peers, ledger, sites_known, now);
    }
    std::uint64_t count(std::string_view site, handshake_result result) {
        return ledger.of(site)->health().handshakes[result];
    }

    PreparedProbe probe;
    WireGuardDevice device;
    PeerTable peers{16};
    SiteLedger ledger;
    HandshakeAccounting accounting{16};
};

TEST_F(HandshakeAccountingTest, CreditsByKeyAndByEndpoint) {
    add_peer(1, "home");
    accounting.learn(Endpoint::parse("192.0.2.1:5").value(), key(1), peers);
    probe.handshakes = {success(by_key(1), 700), success(by_endpoint("192.0.2.1:5"), 30'000)};
    probe.counts = {{by_endpoint("192.0.2.1:5"), HANDSHAKE_REPLAY, 4}};
    credit(start);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 2U);
    EXPECT_EQ(count("home", HANDSHAKE_REPLAY), 4U);
    EXPECT_EQ(ledger.of("home")->health().handshake_latency.histogram().sum_us, 30'700U);
    credit(start + 1s);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 2U) << "credited twice";
}

TEST_F(HandshakeAccountingTest, RemembersAnEndpointThatThePeerHasLeft) {
    add_peer(1, "home");
    accounting.learn(Endpoint::parse("192.0.2.1:5").value(), key(1), peers);
    accounting.learn(Endpoint::parse("192.0.2.9:5").value(), key(1), peers);
    probe.handshakes = {success(by_endpoint("192.0.2.1:5"), 1), success(by_endpoint("192.0.2.9:5"), 1)};
    credit(start);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 2U);
}

TEST_F(HandshakeAccountingTest, ForgetsOnlyEndpointsThatPeersHaveLeft) {
    add_peer(1, "home");
    add_peer(2, "office");
    const Endpoint at_home = Endpoint::parse("192.0.2.1:5").value();
    peers.find(key(1))->endpoint = at_home;
    accounting.learn(at_home, key(1), peers);
    for (std::uint16_t port = 1; port <= 1000; ++port) {
        const Endpoint roaming{IpAddress::parse("198.51.100.7").value(), port};
        peers.find(key(2))->endpoint = roaming;
        accounting.learn(roaming, key(2), peers);
    }
    probe.handshakes = {success(by_endpoint("192.0.2.1:5"), 1), success(by_endpoint("198.51.100.7:1000"), 1)};
    credit(start);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 1U);
    EXPECT_EQ(count("office", HANDSHAKE_SUCCESS), 1U);
}

TEST_F(HandshakeAccountingTest, WaitsForAPeerThatIsNotReadYet) {
    probe.handshakes = {success(by_key(1), 1)};
    credit(start);
    add_peer(1, "home");
    credit(start + 2s);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 1U);
    EXPECT_EQ(count(unassigned_site_id, HANDSHAKE_SUCCESS), 0U);
}

TEST_F(HandshakeAccountingTest, GivesUpAfterAWhile) {
    probe.handshakes = {success(by_key(1), 1)};
    credit(start);
    credit(start + HandshakeAccounting::waiting_time);
    EXPECT_EQ(count(unassigned_site_id, HANDSHAKE_SUCCESS), 1U);
}

TEST_F(HandshakeAccountingTest, NeverGivesUpWhileSitesAreUnknown) {
    probe.handshakes = {success(by_key(1), 1)};
    credit(start, false);
    credit(start + 1h, false);
    EXPECT_EQ(count(unassigned_site_id, HANDSHAKE_SUCCESS), 0U);
    add_peer(1, "home");
    credit(start + 2h);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 1U);
}

TEST_F(HandshakeAccountingTest, OutcomesOfNobodyAreUnassignedAtOnce) {
    probe.counts = {{handshake_identity{}, HANDSHAKE_INVALID_MAC, 1'000'000}};
    credit(start);
    EXPECT_EQ(count(unassigned_site_id, HANDSHAKE_INVALID_MAC), 1'000'000U);
}

TEST_F(HandshakeAccountingTest, HandshakesTellTheLatencyWhenTcpIsSilent) {
    add_peer(1, "home");
    SiteAccount& home = *ledger.of("home");
    probe.handshakes = {success(by_key(1), 100)};
    credit(start);
    EXPECT_EQ(home.health().tunnel_latency.count(), 1U);
    home.last_tcp_latency = start;
    probe.handshakes = {success(by_key(1), 100)};
    credit(start + 1s);
    EXPECT_EQ(home.health().tunnel_latency.count(), 1U);
    EXPECT_EQ(home.health().handshake_latency.count(), 2U);
    probe.handshakes = {success(by_key(1), 100)};
    credit(start + HandshakeAccounting::tcp_silence + 1s);
    EXPECT_EQ(home.health().tunnel_latency.count(), 2U);
}

TEST_F(HandshakeAccountingTest, QueueDropsArePacketDropsOfTheSite) {
    add_peer(1, "home");
    probe.drops = {{key(1).bytes, 12}};
    credit(start);
    ASSERT_EQ(ledger.of("home")->health().packet_drops.size(), 1U);
    EXPECT_EQ(ledger.of("home")->health().packet_drops[0].reason, "wireguard_queue_full");
    EXPECT_EQ(ledger.of("home")->health().packet_drops[0].packets, 12U);
}

TEST_F(HandshakeAccountingTest, WhatWaitsGoesOnInAnotherProcess) {
    accounting.learn(Endpoint::parse("192.0.2.1:5").value(), key(1), peers);
    probe.handshakes = {success(by_endpoint("192.0.2.1:5"), 700)};
    probe.drops = {{key(1).bytes, 12}};
    credit(start);
    HandshakeState state;
    accounting.save(state);
    ArchiveWriter written;
    written(state);

    HandshakeState read;
    ArchiveReader reader(written.bytes());
    reader(read);
    EXPECT_TRUE(reader.ok() && reader.at_end());
    HandshakeAccounting next{16};
    next.restore(read);
    add_peer(1, "home");
    next.credit(probe, peers, ledger, true, start);
    EXPECT_EQ(count("home", HANDSHAKE_SUCCESS), 1U);
    EXPECT_EQ(ledger.of("home")->health().handshake_latency.histogram().sum_us, 700U);
    EXPECT_EQ(ledger.of("home")->health().packet_drops[0].packets, 12U);
}

TEST_F(HandshakeAccountingTest, NothingIsForgottenAtTheEnd) {
    probe.handshakes = {success(by_key(1), 1)};
    credit(start);
    probe.handshakes = {success(by_key(2), 1)};
    credit(start);
    accounting.finish(peers, ledger);
    EXPECT_EQ(count(unassigned_site_id, HANDSHAKE_SUCCESS), 2U);
}

}  // namespace
}  // namespace pangolin
