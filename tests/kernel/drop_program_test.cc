// The drop program on packets that the kernel really drops: between a TUN device that stands for WireGuard's
// interface, and a link that stands for the network underneath.
#include "loader/drop_program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>

#include "loader/kernel_btf.h"
#include "tests/support/linked_namespaces.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {
namespace {

constexpr std::uint16_t listen_port = 51820;
constexpr std::uint16_t peer_port = 5555;
constexpr std::uint32_t slot4 = 1;
constexpr std::uint32_t slot6 = 2;
const char* const host4 = "100.89.128.1";
const char* const site4 = "100.89.128.5";
const char* const site6 = "fd00::5";

IpAddress ip(const char* text) {
    return *IpAddress::parse(text);
}

// RFC 1071.
void set_header_checksum(std::vector<std::uint8_t>& packet) {
    std::uint32_t sum = 0;
    packet[10] = packet[11] = 0;
    for (std::size_t i = 0; i < 20; i += 2)
        sum += static_cast<std::uint32_t>(packet[i] << 8 | packet[i + 1]);
    sum = ~((sum & 0xffff) + (sum >> 16));
    packet[10] = static_cast<std::uint8_t>(sum >> 8);
    packet[11] = static_cast<std::uint8_t>(sum);
}

// From a site into the host.
std::vector<std::uint8_t> from_site(const char* source, const char* destination, std::uint8_t protocol,
                                    std::size_t size) {
    PacketBuilder builder;
    if (ip(source).family == IpFamily::v4)
        builder.ipv4({.source = ip(source), .destination = ip(destination), .protocol = protocol});
    else
        builder.ipv6({.source = ip(source), .destination = ip(destination), .next_header = protocol});
    if (protocol == IPPROTO_TCP)
        builder.tcp();
    else
        builder.udp();
    std::vector<std::uint8_t> frame = builder.payload(size).build();
    frame.erase(frame.begin(), frame.begin() + ethernet_length);
    if (ip(source).family == IpFamily::v4)
        set_header_checksum(frame);
    return frame;
}

sockaddr_in6 mapped(const char* text, std::uint16_t port) {
    sockaddr_in6 result{};
    result.sin6_family = AF_INET6;
    result.sin6_port = htons(port);
    const std::string v4 = ip(text).family == IpFamily::v4 ? "::ffff:" : "";
    inet_pton(AF_INET6, (v4 + text).c_str(), &result.sin6_addr);
    return result;
}

UniqueFd udp_socket(std::uint16_t port) {
    UniqueFd socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in6 any = mapped("::", port);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0)
        socket.reset();
    const timeval limit{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return socket;
}

// Says whether the kernel took it.
bool send_to(const UniqueFd& socket, const char* to, std::uint16_t port, std::size_t size = 100) {
    const sockaddr_in6 address = mapped(to, port);
    const std::vector<char> data(size, 'x');
    return ::sendto(socket.get(), data.data(), size, 0, reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) == static_cast<ssize_t>(size);
}

bool add_chain(const char* hook) {
    return LinkedNamespaces::run(std::string("nft add table inet t && nft add chain inet t ") + hook +
                                 " '{ type filter hook " + hook + " priority 0; }'");
}

bool add_drop(const char* hook, const std::string& match) {
    return add_chain(hook) &&
           LinkedNamespaces::run(std::string("nft add rule inet t ") + hook + " " + match + " counter drop");
}

// Of all rules.
std::uint64_t dropped_by_rules() {
    return static_cast<std::uint64_t>(LinkedNamespaces::number_of(
        "nft list ruleset | grep -o 'packets [0-9]*' | awk '{n += $2} END {print n + 0}'"));
}

class DropProgramTest : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        net_.emplace();
        ASSERT_TRUE(net_->ready());
        auto device = TunDevice::create("wgtest0");
        ASSERT_TRUE(device) << device.error().message();
        device_.emplace(std::move(*device));
        auto peers = PeerLookup::create(16);
        ASSERT_TRUE(peers) << peers.error().message();
        peers_.emplace(std::move(*peers));
        ASSERT_TRUE(peers_->set_routes(
            {{*IpPrefix::parse("100.89.128.4/30"), slot4}, {*IpPrefix::parse("fd00::4/126"), slot6}}));
        ASSERT_TRUE(peers_->set_endpoints({{{ip("10.89.0.2"), peer_port}, slot4}}));
        attach(device_->interface());
    }

    void attach(const WireGuardInterface& interface) {
        auto program = DropProgram::attach(interface, *peers_, 16);
        ASSERT_TRUE(program) << program.error().message();
        program_.emplace(std::move(*program));
        program_->set_listen_port(listen_port);
    }

    void write(const std::vector<std::uint8_t>& packet, const TunPacketForm& form = {}) {
        const auto written = device_->write(packet, form);
        ASSERT_TRUE(written) << written.error().message();
    }

    std::uint64_t drops(traffic_direction direction, drop_place place, std::uint32_t slot,
                        std::string_view reason = {}) const {
        // A kernel without reasons says nothing.
        const bool reasons = program_->reasons().number("not_specified").has_value();
        std::uint64_t packets = 0;
        for (const DropCount& count : program_->read()) {
            if (count.key.direction == direction && count.key.place == place && count.key.slot == slot &&
                (reason.empty() || !reasons || program_->reasons().name(count.key.reason) == reason))
                packets += count.packets;
        }
        return packets;
    }

    std::uint64_t all_drops() const {
        std::uint64_t packets = 0;
        for (const DropCount& count : program_->read())
            packets += count.packets;
        return packets;
    }

    std::string described() const {
        std::string text;
        for (const DropCount& count : program_->read())
            text += fmt::format("slot {} {} direction {} place {}: {}\n", count.key.slot,
                                program_->reasons().name(count.key.reason), count.key.direction,
                                count.key.place, count.packets);
        return text;
    }

    std::optional<LinkedNamespaces> net_;
    std::optional<TunDevice> device_;
    std::optional<PeerLookup> peers_;
    std::optional<DropProgram> program_;
};

TEST(DropReasonsTest, HaveTheNamesOfThisKernel) {
    const DropReasons reasons = DropReasons::of_this_kernel();
    EXPECT_EQ(reasons.name(0x30005), "reason_196613");
    EXPECT_FALSE(reasons.benign(0x30005));
    EXPECT_EQ(reasons.number("no_such_reason"), std::nullopt);
    const auto unspecified = reasons.number("not_specified");
    if (!unspecified) {
        EXPECT_EQ(reasons.name(0), "not_specified");
        EXPECT_TRUE(reasons.unspecified(0));
        EXPECT_FALSE(reasons.benign(0));
        return;
    }
    EXPECT_TRUE(reasons.unspecified(*unspecified));
    EXPECT_FALSE(reasons.unspecified(0));
    EXPECT_TRUE(reasons.benign(0));
    ASSERT_TRUE(reasons.number("netfilter_drop"));
    EXPECT_EQ(reasons.name(*reasons.number("netfilter_drop")), "netfilter_drop");
    EXPECT_FALSE(reasons.benign(*reasons.number("netfilter_drop")));
    EXPECT_FALSE(reasons.number("max"));
}

TEST_F(DropProgramTest, CountsWhatAFilterDropsOnItsWayIn) {
    ASSERT_TRUE(add_drop("input", "iifname wgtest0 meta l4proto udp"));
    for (int i = 0; i < 20; ++i)
        write(from_site(site4, host4, IPPROTO_UDP, 50));
    for (int i = 0; i < 7; ++i)
        write(from_site(site6, "fd00::1", IPPROTO_UDP, 50));
    write(from_site("100.89.128.77", host4, IPPROTO_UDP, 50));
    EXPECT_EQ(dropped_by_rules(), 28U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4, "netfilter_drop"), 20U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot6, "netfilter_drop"), 7U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, 0, "netfilter_drop"), 1U);
    EXPECT_EQ(all_drops(), 28U) << described();
}

TEST_F(DropProgramTest, CountsWhatAFilterDropsOnItsWayOut) {
    ASSERT_TRUE(add_drop("output", "oifname wgtest0 meta l4proto udp"));
    const UniqueFd socket = udp_socket(0);
    for (int i = 0; i < 20; ++i)
        send_to(socket, site4, 9);
    for (int i = 0; i < 7; ++i)
        send_to(socket, site6, 9);
    EXPECT_EQ(dropped_by_rules(), 27U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4, "netfilter_drop"), 20U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot6, "netfilter_drop"), 7U);
    EXPECT_EQ(all_drops(), 27U) << described();
}

TEST_F(DropProgramTest, CountsWhatAFilterDropsOnItsWayThrough) {
    ASSERT_TRUE(LinkedNamespaces::run("echo 1 >/proc/sys/net/ipv4/ip_forward"));
    ASSERT_TRUE(net_->run_far("ip route add 100.89.128.0/20 via 10.89.0.1"));
    ASSERT_TRUE(add_drop("forward", "meta l4proto udp"));
    const UniqueFd far = net_->far_socket([] { return udp_socket(0); });
    for (int i = 0; i < 5; ++i)
        EXPECT_TRUE(send_to(far, site4, 9));
    for (int i = 0; i < 3; ++i)
        write(from_site(site4, "10.89.0.2", IPPROTO_UDP, 50));
    // From the tunnel into the tunnel.
    for (int i = 0; i < 2; ++i)
        write(from_site(site4, "100.89.128.77", IPPROTO_UDP, 50));
    EXPECT_EQ(dropped_by_rules(), 10U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4, "netfilter_drop"), 5U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4, "netfilter_drop"), 5U);
    EXPECT_EQ(all_drops(), 10U) << described();
}

TEST_F(DropProgramTest, CountsWhatHasNoRoute) {
    ASSERT_TRUE(LinkedNamespaces::run("echo 1 >/proc/sys/net/ipv4/ip_forward"));
    for (int i = 0; i < 4; ++i)
        write(from_site(site4, "203.0.113.1", IPPROTO_UDP, 50));
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4), 4U) << described();
    EXPECT_EQ(all_drops(), 4U) << described();
}

TEST_F(DropProgramTest, CountsWhatTheDevicesQueueHasNoRoomFor) {
    const UniqueFd socket = udp_socket(0);
    for (int i = 0; i < 3000; ++i)
        send_to(socket, site4, 9);
    const std::int64_t kernel = LinkedNamespaces::number_of("awk '/wgtest0/ {print $13}' /proc/self/net/dev");
    EXPECT_GT(kernel, 1000);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4, "full_ring"), static_cast<std::uint64_t>(kernel))
        << described();
}

TEST_F(DropProgramTest, CountsPacketsOfTheWireInSuperPackets) {
    ASSERT_TRUE(add_drop("input", "iifname wgtest0"));
    ASSERT_TRUE(add_drop("output", "oifname wgtest0 meta l4proto udp"));
    write(from_site(site4, host4, IPPROTO_TCP, 5001), {.gso_size = 1000});
    write(from_site(site6, "fd00::1", IPPROTO_TCP, 5000), {.gso_size = 1000});
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4), 6U) << described();
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot6), 5U) << described();
    const UniqueFd socket = udp_socket(0);
    const int segment = 500;
    ASSERT_EQ(::setsockopt(socket.get(), SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
    // Before Linux 6.11 a device must have checksums in hardware for this.
    if (!send_to(socket, site4, 9, 4600) && errno == EIO)
        return;
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4), 10U) << described();
    EXPECT_EQ(dropped_by_rules(), 3U);
}

// The kernel takes the device's pointer out of such packets before it drops them.
TEST_F(DropProgramTest, CountsWhatTheTunnelsSocketHasNoRoomFor) {
    const UniqueFd tunnel = udp_socket(listen_port);
    const UniqueFd other = udp_socket(listen_port + 1);
    const int room = 20000;
    ::setsockopt(tunnel.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    ::setsockopt(other.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    const UniqueFd far = net_->far_socket([] { return udp_socket(peer_port); });
    for (int i = 0; i < 500; ++i)
        ASSERT_TRUE(send_to(far, "10.89.0.1", listen_port, 900));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const std::int64_t kernel =
        LinkedNamespaces::number_of("nstat -asz UdpRcvbufErrors | grep -o 'RcvbufErrors .*'");
    EXPECT_GT(kernel, 300);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_UNDERLAY, slot4, "socket_rcvbuff"),
              static_cast<std::uint64_t>(kernel))
        << described();
    for (int i = 0; i < 500; ++i)
        ASSERT_TRUE(send_to(far, "10.89.0.1", listen_port + 1, 900));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(all_drops(), static_cast<std::uint64_t>(kernel)) << described();
}

// Since Linux 6.11 such a packet is known by its socket, before that by its endpoint.
TEST_F(DropProgramTest, CountsWhatTheTunnelsSocketHasNoRoomForFromStrangers) {
    const auto kernel = KernelBtf::load();
    ASSERT_TRUE(kernel);
    if (kernel->tracepoint_arguments("kfree_skb") < 4)
        GTEST_SKIP() << "the kernel does not tell the receiving socket";
    ASSERT_TRUE(peers_->set_endpoints({}));
    const UniqueFd tunnel = udp_socket(listen_port);
    const int room = 20000;
    ::setsockopt(tunnel.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    const UniqueFd far = net_->far_socket([] { return udp_socket(peer_port); });
    for (int i = 0; i < 500; ++i)
        ASSERT_TRUE(send_to(far, "10.89.0.1", listen_port, 900));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_UNDERLAY, 0, "socket_rcvbuff"),
              static_cast<std::uint64_t>(
                  LinkedNamespaces::number_of("nstat -asz UdpRcvbufErrors | grep -o 'RcvbufErrors .*'")))
        << described();
}

TEST_F(DropProgramTest, CountsTheUnderlayByEndpoint) {
    ASSERT_TRUE(add_drop("input", "iifname pgx0 meta l4proto udp"));
    ASSERT_TRUE(add_drop("output", "oifname pgx0 meta l4proto udp"));
    const UniqueFd tunnel = udp_socket(listen_port);
    const UniqueFd other = udp_socket(listen_port + 1);
    const UniqueFd peer = net_->far_socket([] { return udp_socket(peer_port); });
    const UniqueFd stranger = net_->far_socket([] { return udp_socket(peer_port + 1); });
    for (int i = 0; i < 5; ++i)
        EXPECT_TRUE(send_to(peer, "10.89.0.1", listen_port));
    for (int i = 0; i < 3; ++i)
        EXPECT_TRUE(send_to(stranger, "10.89.0.1", listen_port));
    EXPECT_TRUE(send_to(peer, "10.89.0.1", listen_port + 1));
    for (int i = 0; i < 4; ++i)
        send_to(tunnel, "10.89.0.2", peer_port);
    send_to(tunnel, "fd89::2", peer_port);
    // To somebody else's tunnel.
    send_to(other, "10.89.0.2", listen_port);
    EXPECT_EQ(dropped_by_rules(), 15U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_UNDERLAY, slot4, "netfilter_drop"), 5U);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_UNDERLAY, 0, "netfilter_drop"), 3U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_UNDERLAY, slot4, "netfilter_drop"), 4U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_UNDERLAY, 0, "netfilter_drop"), 1U);
    EXPECT_EQ(all_drops(), 13U) << described();
    program_->set_listen_port(0);
    send_to(tunnel, "10.89.0.2", peer_port);
    EXPECT_EQ(all_drops(), 13U) << described();
}

// As clients relayed through the tunnel send to a site's own WireGuard.
TEST_F(DropProgramTest, KnowsAnInnerPacketToTheSamePort) {
    ASSERT_TRUE(add_drop("input", "meta l4proto udp"));
    std::vector<std::uint8_t> packet = from_site(site4, host4, IPPROTO_UDP, 50);
    packet[22] = listen_port >> 8;
    packet[23] = listen_port & 0xff;
    write(packet);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4), 1U);
    EXPECT_EQ(all_drops(), 1U) << described();
}

TEST_F(DropProgramTest, IgnoresOtherInterfacesAndNamespaces) {
    ASSERT_TRUE(add_drop("input", "iifname { lo, pgx0 } meta l4proto udp"));
    const UniqueFd socket = udp_socket(0);
    send_to(socket, "127.0.0.1", 9);
    // An interface of the same number and addresses, and the same port, elsewhere.
    const std::string index = std::to_string(device_->interface().index);
    ASSERT_TRUE(net_->run_far("ip link add pgx2 index " + index +
                              " type veth peer name pgx3 index 97 && ip addr add 100.89.128.1/20 dev pgx2 && "
                              "ip link set pgx3 up && ip link set pgx2 up && "
                              "nft add table inet t && "
                              "nft add chain inet t output \"{ type filter hook output priority 0; }\" && "
                              "nft add rule inet t output meta l4proto udp counter drop"));
    const UniqueFd far = net_->far_socket([] { return udp_socket(listen_port); });
    for (int i = 0; i < 3; ++i) {
        EXPECT_FALSE(send_to(far, site4, 9));
        EXPECT_FALSE(send_to(far, "10.89.0.1", 9));
    }
    EXPECT_EQ(dropped_by_rules(), 1U);
    EXPECT_EQ(all_drops(), 0U) << described();
}

TEST_F(DropProgramTest, IgnoresPacketsThatArrive) {
    const UniqueFd socket = udp_socket(9);
    std::vector<std::uint8_t> packet = from_site(site4, host4, IPPROTO_UDP, 50);
    packet[22] = 0;
    packet[23] = 9;
    packet[24] = 0;
    packet[25] = 58;
    // No checksum.
    packet[26] = packet[27] = 0;
    char data[100];
    for (int i = 0; i < 50; ++i) {
        write(packet);
        ASSERT_EQ(::recv(socket.get(), data, sizeof data, 0), 50);
        ASSERT_TRUE(send_to(socket, site4, 9));
        ASSERT_TRUE(send_to(socket, site6, 9));
        ASSERT_TRUE(device_->read(1000));
        ASSERT_TRUE(device_->read(1000));
    }
    EXPECT_EQ(all_drops(), 0U) << described();
}

// tcpdump on the interface that does not keep up loses its own copies.
TEST_F(DropProgramTest, IgnoresCopiesForPacketSockets) {
    if (!program_->reasons().number("packet_sock_error"))
        GTEST_SKIP() << "the kernel does not tell that a dropped packet is such a copy";
    const UniqueFd reader(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    const int room = 1;
    ASSERT_EQ(::setsockopt(reader.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    const UniqueFd socket = udp_socket(9);
    for (int i = 0; i < 50; ++i)
        ASSERT_TRUE(send_to(socket, site4, 9));
    tpacket_stats lost{};
    socklen_t size = sizeof lost;
    ASSERT_EQ(::getsockopt(reader.get(), SOL_PACKET, PACKET_STATISTICS, &lost, &size), 0);
    EXPECT_GT(lost.tp_drops, 0U);
    EXPECT_EQ(all_drops(), 0U) << described();
}

// Up to Linux 6.2 an ICMPv6 message ends like a dropped one.
TEST_F(DropProgramTest, IgnoresAnAnsweredEcho) {
    PacketBuilder builder;
    // Echo request 1 of identifier 1 with its checksum.
    builder.ipv6({.source = ip(site6), .destination = ip("fd00::1"), .next_header = IPPROTO_ICMPV6})
        .raw(std::vector<std::uint8_t>{128, 0, 0x85, 0xb3, 0, 1, 0, 1});
    std::vector<std::uint8_t> frame = builder.build();
    frame.erase(frame.begin(), frame.begin() + ethernet_length);
    write(frame);
    const auto answer = device_->read(1000);
    ASSERT_TRUE(answer);
    EXPECT_EQ((*answer)[40], 129);
    EXPECT_EQ(all_drops(), 0U) << described();
}

TEST_F(DropProgramTest, KnowsWhatWireGuardItselfDrops) {
    if (!LinkedNamespaces::run("ip link add pgxwg type wireguard 2>/dev/null"))
        GTEST_SKIP() << "the kernel has no WireGuard";
    ASSERT_TRUE(LinkedNamespaces::run("ip link set pgxwg up && ip route add 100.89.128.4/30 dev pgxwg"));
    WireGuardInterface interface = device_->interface();
    interface.name = "pgxwg";
    interface.index = ::if_nametoindex("pgxwg");
    attach(interface);
    const UniqueFd socket = udp_socket(0);
    // It has no peer with this address.
    for (int i = 0; i < 6; ++i)
        send_to(socket, site4, 9);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_WIREGUARD, slot4), 6U) << described();
    ASSERT_TRUE(add_drop("output", "oifname pgxwg meta l4proto udp"));
    for (int i = 0; i < 3; ++i)
        send_to(socket, site4, 9);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4), 3U) << described();
    EXPECT_EQ(all_drops(), 9U) << described();
}

TEST_F(DropProgramTest, ForgetsASlot) {
    ASSERT_TRUE(add_drop("input", "iifname wgtest0"));
    ASSERT_TRUE(add_drop("output", "oifname wgtest0 meta l4proto udp"));
    const UniqueFd socket = udp_socket(0);
    write(from_site(site4, host4, IPPROTO_UDP, 50));
    write(from_site(site6, "fd00::1", IPPROTO_UDP, 50));
    send_to(socket, site4, 9);
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot4), 1U);
    EXPECT_EQ(drops(TRAFFIC_EGRESS, DROP_IN_TUNNEL, slot4), 1U);
    EXPECT_EQ(all_drops(), 3U);
    program_->forget({slot4});
    EXPECT_EQ(drops(TRAFFIC_INGRESS, DROP_IN_TUNNEL, slot6), 1U);
    EXPECT_EQ(all_drops(), 1U);
    EXPECT_EQ(program_->lost(), 0U);
}

}  // namespace
}  // namespace pangolin::test
