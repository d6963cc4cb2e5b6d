#include "userspace/state/state_file.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "tests/support/random_seed.h"
#include "tests/support/scratch_folder.h"
#include "userspace/state/interface_state.h"
#include "userspace/state/ledger_state.h"
#include "userspace/state/peer_statistics_state.h"

namespace pangolin {
namespace {

constexpr std::array<std::uint8_t, 16> name_a{1, 2, 3};

std::vector<std::uint8_t> content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::uint8_t> bytes(std::size_t size, std::uint8_t first = 0) {
    std::vector<std::uint8_t> result(size);
    for (std::uint8_t& byte : result)
        byte = first++;
    return result;
}

TEST(StateFile, ReadsWhatWasWrittenLast) {
    const ScratchFolder folder;
    auto file = StateFile::open(folder.path("state_dir"));
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_FALSE(file->read());
    ASSERT_TRUE(file->write(name_a, 7, bytes(1000), true));
    ASSERT_TRUE(file->write(name_a, 8, bytes(10, 5), false));
    auto read = file->read();
    ASSERT_TRUE(read);
    EXPECT_EQ(read->sequence, 8);
    EXPECT_EQ(read->instance, name_a);
    EXPECT_EQ(read->payload, bytes(10, 5));
    ASSERT_TRUE(file->write(name_a, 9, bytes(0), true));
    read = file->read();
    ASSERT_TRUE(read);
    EXPECT_EQ(read->sequence, 9);
    EXPECT_TRUE(read->payload.empty());
}

TEST(StateFile, DoesNotMixFilesOfDifferentInstances) {
    const ScratchFolder folder;
    auto file = StateFile::open(folder.path("state_dir"));
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write({9}, 100, bytes(1), false));
    ASSERT_TRUE(file->write(name_a, 1, bytes(2), true));
    ASSERT_EQ(file->read()->instance, name_a);
}

TEST(StateFile, SetsAsideWhatIsTornOrForeign) {
    const ScratchFolder folder;
    const std::string path = folder.path("state_dir/state");
    {
        auto file = StateFile::open(folder.path("state_dir"));
        ASSERT_TRUE(file->write(name_a, 1, bytes(100), true));
    }
    const std::vector<std::uint8_t> good = content_of(path);
    ASSERT_TRUE(StateFile::parse(good));
    for (std::size_t length = 0; length < good.size(); ++length)
        EXPECT_FALSE(StateFile::parse(std::span(good).first(length))) << length;
    for (std::size_t at = 0; at < good.size(); ++at) {
        auto changed = good;
        changed[at] ^= 0x10;
        EXPECT_FALSE(StateFile::parse(changed)) << at;
    }
    auto longer = good;
    longer.push_back(0);
    EXPECT_FALSE(StateFile::parse(longer));

    folder.write("state_dir/state", "totals: 7\n");
    auto file = StateFile::open(folder.path("state_dir"));
    ASSERT_TRUE(file);
    EXPECT_FALSE(file->read());
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(content_of(path + ".bad").size(), 10);
    ASSERT_TRUE(file->write(name_a, 2, bytes(3), true));
    EXPECT_EQ(file->read()->sequence, 2);
}

TEST(StateFile, IsHeldByOne) {
    const ScratchFolder folder;
    const auto first = StateFile::open(folder.path("state_dir"));
    ASSERT_TRUE(first);
    const auto second = StateFile::open(folder.path("state_dir"));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EWOULDBLOCK);
}

// A ledger with something everywhere.
void fill(Ledger& ledger) {
    SiteAccount& site = *ledger.sites.of("home");
    site.traffic.count[TRAFFIC_INGRESS][TRAFFIC_TCP] = {.packets = 3, .bytes = 4000};
    site.relay.count[TRAFFIC_EGRESS] = {.packets = 1, .bytes = 99};
    site.tunnel_receive_bytes = 77;
    site.had_peer = true;
    site.uptime_seconds = 12.5;
    site.health().tcp_retransmits = 5;
    site.health().tunnel_latency.observe(1500);
    site.health().add_drops(TRAFFIC_EGRESS, "netfilter_drop", 6);
    ledger.sites.of("empty");
    ledger.client("laptop")->traffic.count[TRAFFIC_EGRESS][TRAFFIC_UDP].bytes = 8;
    ledger.resources.of("home", "web")->traffic.count[TRAFFIC_INGRESS].bytes = 1234;
    TargetAccount& target = *ledger.resources.target("home", "web", "100.89.128.4:80");
    target.errors[1] = 2;
    target.http.add_requests(HTTP_METHOD_GET, 200, 10);
    target.http.durations[HTTP_METHOD_GET].observe(30);
    target.http.aborted = 3;
    ledger.resources.backend("home", "100.89.128.4:80")->response_sizes.bucket[3] = 4;
    WireGuardKey key;
    key.bytes[5] = 5;
    ledger.sites.keep_reading(key, {.receive_bytes = 1, .transmit_bytes = 2});
}

std::vector<std::uint8_t> written(Ledger& ledger) {
    ArchiveWriter writer;
    write_ledger(writer, ledger);
    return {writer.bytes().begin(), writer.bytes().end()};
}

bool read(std::span<const std::uint8_t> payload, Ledger& ledger) {
    ArchiveReader reader(payload);
    return reader.blocks([&](std::uint32_t kind, ArchiveReader& block) {
        if (!read_ledger_block(static_cast<StateBlock>(kind), block, ledger)) {
            InterfaceState interface;
            block(interface);
        }
    });
}

TEST(LedgerState, ComesBackAsItWas) {
    Ledger before;
    fill(before);
    const std::vector<std::uint8_t> payload = written(before);
    Ledger after;
    ASSERT_TRUE(read(payload, after));
    EXPECT_EQ(written(after), payload);
    SiteAccount& site = *after.sites.of("home");
    EXPECT_EQ(site.traffic.count[TRAFFIC_INGRESS][TRAFFIC_TCP].bytes, 4000);
    EXPECT_EQ(site.uptime_seconds, 12.5);
    EXPECT_EQ(site.health().tunnel_latency.count(), 1);
    EXPECT_EQ(site.health().packet_drops.at(0).reason, "netfilter_drop");
    EXPECT_EQ(after.client("laptop")->traffic.count[TRAFFIC_EGRESS][TRAFFIC_UDP].bytes, 8);
    EXPECT_EQ(
        after.resources.target("home", "web", "100.89.128.4:80")->http.requests.at({HTTP_METHOD_GET, 200}),
        10);
    EXPECT_EQ(after.resources.target("home", "web", "100.89.128.4:80")->http.aborted, 3);
}

TEST(LedgerState, PassesOverWhatItDoesNotKnow) {
    Ledger before;
    fill(before);
    ArchiveWriter writer;
    writer.block(999, [](ArchiveWriter& block) { block(std::string("of the future")); });
    write_ledger(writer, before);
    Ledger after;
    ArchiveReader reader(writer.bytes());
    ASSERT_TRUE(reader.blocks([&](std::uint32_t kind, ArchiveReader& block) {
        read_ledger_block(static_cast<StateBlock>(kind), block, after);
    }));
    EXPECT_EQ(after.sites.of("home")->tunnel_receive_bytes, 77);
}

// No bytes make it fail otherwise than by saying so: the fuzzer's work in small.
TEST(LedgerState, SurvivesAnyBytes) {
    Ledger full;
    fill(full);
    const std::vector<std::uint8_t> payload = written(full);
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(test::random_seed());
    for (int round = 0; round < 3000; ++round) {
        auto changed = payload;
        for (int change = 0; change < 3; ++change)
            changed[random() % changed.size()] = static_cast<std::uint8_t>(random());
        changed.resize(changed.size() - random() % 50);
        Ledger ledger;
        read(changed, ledger);
    }
}

TEST(InterfaceState, ComesBackAsItWas) {
    InterfaceState before;
    before.interface.name = "wg0";
    before.interface.index = 3;
    before.interface.netns_cookie = 17;
    before.interface.netns.name = "container:gerbil";
    before.pins = "layout-1/4026532281-17-3/1";
    PeerState peer;
    peer.key.bytes[0] = 9;
    peer.slot = 4;
    peer.site_id = "home";
    before.peers.push_back(peer);
    TargetState target;
    target.index = 2;
    target.dialled = {.address = *IpAddress::parse("fd00::4"), .port = 80, .protocol = TargetProtocol::udp};
    before.targets.push_back(target);
    before.unmatched.push_back({.remote = *IpAddress::parse("100.89.128.9"), .credited = {}});
    ArchiveWriter writer;
    writer(before);
    InterfaceState after;
    ArchiveReader reader(writer.bytes());
    reader(after);
    ASSERT_TRUE(reader.ok() && reader.at_end());
    EXPECT_TRUE(after.interface.same_as(before.interface));
    EXPECT_EQ(after.pins, before.pins);
    EXPECT_EQ(after.peers.at(0).key, peer.key);
    EXPECT_EQ(after.targets.at(0).dialled, target.dialled);
    EXPECT_EQ(after.unmatched.at(0).remote, before.unmatched.at(0).remote);
}

TEST(PeerStatisticsState, ComesBackAsItWas) {
    SlotTcpCounts counts;
    counts.slot = 7;
    counts.counts.connections[TCP_RESULT_REFUSED] = 3;
    counts.counts.retransmits = 5;
    counts.counts.rtt.bucket[0] = 1;
    counts.counts.rtt.bucket[LATENCY_BUCKETS - 1] = 2;
    counts.counts.rtt.sum_us = 11;
    PeerStatisticsState before;
    before.interface.index = 3;
    before.tcp_pins = "layout-1/4026532281-17-3-tcp/1";
    before.drop_pins = "layout-1/4026532281-17-3-drops/2";
    before.tcp = {to_credit(counts)};
    before.drops = {{.key = {.slot = 7, .reason = 9, .direction = TRAFFIC_EGRESS, .place = DROP_IN_UNDERLAY},
                     .packets = 13}};
    before.wireguard_unknown = true;
    before.tcp_losses = 17;
    before.drop_losses = 19;
    ArchiveWriter writer;
    writer(before);
    PeerStatisticsState after;
    ArchiveReader reader(writer.bytes());
    reader(after);
    ASSERT_TRUE(reader.ok() && reader.at_end());
    EXPECT_TRUE(after.interface.same_as(before.interface));
    EXPECT_EQ(after.tcp_pins, before.tcp_pins);
    EXPECT_EQ(after.drop_pins, before.drop_pins);
    const SlotTcpCounts read = from_credit(after.tcp.at(0));
    EXPECT_EQ(read.slot, 7U);
    EXPECT_EQ(std::memcmp(&read.counts, &counts.counts, sizeof counts.counts), 0);
    EXPECT_EQ(std::memcmp(&after.drops.at(0), &before.drops.at(0), sizeof(DropCount)), 0);
    EXPECT_TRUE(after.wireguard_unknown);
    EXPECT_EQ(after.tcp_losses, 17U);
    EXPECT_EQ(after.drop_losses, 19U);
}

// A file may say anything of a bucket.
TEST(PeerStatisticsState, LeavesOutBucketsThatThereAreNot) {
    TcpCredit credit;
    credit.buckets = {{LATENCY_BUCKETS, 1}, {255, 1}, {2, 4}};
    const latency_histogram read = from_credit(credit).counts.rtt;
    EXPECT_EQ(std::accumulate(std::begin(read.bucket), std::end(read.bucket), std::uint64_t{0}), 4U);
}

}  // namespace
}  // namespace pangolin
