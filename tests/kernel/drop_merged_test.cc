// Packets that the kernel put together (GRO) before it drops them: the parts are freed one by one after the
// whole.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <array>
#include <chrono>
#include <thread>

#include "loader/drop_program.h"
#include "tests/support/linked_namespaces.h"
#include "tests/support/privileges.h"

namespace pangolin::test {
namespace {

constexpr std::uint32_t slot = 1;
constexpr std::size_t payload = 1000;

void put16(std::uint8_t* at, std::size_t value) {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value);
}

// Segment `number` of a connection from 100.89.128.5 to 100.89.128.1; its TCP checksum is left out.
std::vector<std::uint8_t> segment(std::size_t number) {
    std::vector<std::uint8_t> packet(40 + payload);
    std::uint8_t* const ip = packet.data();
    ip[0] = 0x45;
    put16(ip + 2, packet.size());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = IPPROTO_TCP;
    inet_pton(AF_INET, "100.89.128.5", ip + 12);
    inet_pton(AF_INET, "100.89.128.1", ip + 16);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < 20; i += 2)
        sum += static_cast<std::uint32_t>(ip[i] << 8 | ip[i + 1]);
    put16(ip + 10, ~((sum & 0xffff) + (sum >> 16)) & 0xffff);
    std::uint8_t* const tcp = ip + 20;
    put16(tcp, 1000);
    put16(tcp + 2, 2000);
    put16(tcp + 6, 1 + number * payload);
    put16(tcp + 10, 1);
    tcp[12] = 5 << 4;
    tcp[13] = 0x10;
    put16(tcp + 14, 1000);
    return packet;
}

// As WireGuard does, it hands packets with a linear buffer to GRO, which can but hang one behind the other.
UniqueFd merging_device(const char* name) {
    UniqueFd device(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ifreq request{};
    std::string_view(name).copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_NAPI;
    if (::ioctl(device.get(), TUNSETIFF, &request) != 0)
        device.reset();
    return device;
}

TEST(DropMergedTest, CountsTheWholeAndNotItsPartsAgain) {
    PANGOLIN_REQUIRE_ROOT();
    const LinkedNamespaces net;
    ASSERT_TRUE(net.ready());
    const UniqueFd device = merging_device("pgxnapi");
    ASSERT_TRUE(device);
    // Packets that come within this time are put together.
    ASSERT_TRUE(LinkedNamespaces::run(
        "ip addr add 100.89.128.1/20 dev pgxnapi && ip link set pgxnapi up && "
        "unshare -m sh -c 'mount -t sysfs none /sys && echo 300000000 "
        ">/sys/class/net/pgxnapi/gro_flush_timeout' && "
        "nft add table inet t && nft add chain inet t in '{ type filter hook input priority 0; }' && "
        "nft add rule inet t in meta l4proto tcp counter drop"));
    WireGuardInterface interface;
    static_cast<NetworkInterface&>(interface) = net.near_interface();
    interface.name = "pgxnapi";
    interface.index = ::if_nametoindex("pgxnapi");
    auto peers = PeerLookup::create(4);
    ASSERT_TRUE(peers && peers->set_routes({{*IpPrefix::parse("100.89.128.4/30"), slot}}));
    const auto program = DropProgram::attach(interface, *peers, 4);
    ASSERT_TRUE(program) << program.error().message();
    for (std::size_t i = 0; i < 8; ++i) {
        // VIRTIO_NET_HDR_F_NEEDS_CSUM, from byte 20 into byte 16 of that (little endian).
        std::array<std::uint8_t, 10> offloads{1, 0, 0, 0, 0, 0, 20, 0, 16, 0};
        std::vector<std::uint8_t> packet = segment(i);
        const iovec parts[] = {{offloads.data(), offloads.size()}, {packet.data(), packet.size()}};
        ASSERT_GT(::writev(device.get(), parts, 2), 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(800));
    EXPECT_LT(LinkedNamespaces::number_of("nft list ruleset | grep -o 'packets [0-9]*'"), 8) << "not merged";
    std::uint64_t packets = 0;
    for (const DropCount& count : program->read()) {
        EXPECT_EQ(count.key.slot, slot);
        EXPECT_EQ(count.key.direction, static_cast<std::uint32_t>(TRAFFIC_INGRESS));
        packets += count.packets;
    }
    EXPECT_EQ(packets, 8U);
}

}  // namespace
}  // namespace pangolin::test
