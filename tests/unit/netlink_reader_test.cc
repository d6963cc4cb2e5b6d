// WireGuard's netlink messages, also cut ones and hostile ones. The reader itself is tested against a real
// interface where the kernel has WireGuard (tests/kernel).
#include "userspace/wireguard/netlink_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace pangolin {
namespace {

using testing::HasSubstr;

WireGuardKey key(std::uint8_t fill) {
    WireGuardKey key;
    key.bytes.fill(fill);
    return key;
}

// Writes a message as the kernel does.
class MessageBuilder {
  public:
    MessageBuilder() : message_(mnl_nlmsg_put_header(buffer_.data())) {
        mnl_nlmsg_put_extra_header(message_, sizeof(genlmsghdr));
    }
    MessageBuilder& device(const WireGuardKey& public_key, std::uint16_t port) {
        mnl_attr_put_strz(message_, WGDEVICE_A_IFNAME, "wg0");
        mnl_attr_put(message_, WGDEVICE_A_PRIVATE_KEY, WG_KEY_LEN, public_key.bytes.data());
        mnl_attr_put(message_, WGDEVICE_A_PUBLIC_KEY, WG_KEY_LEN, public_key.bytes.data());
        mnl_attr_put_u16(message_, WGDEVICE_A_LISTEN_PORT, port);
        return *this;
    }
    MessageBuilder& begin_peers() {
        peers_ = mnl_attr_nest_start(message_, WGDEVICE_A_PEERS);
        return *this;
    }
    MessageBuilder& begin_peer(const WireGuardKey& public_key) {
        peer_ = mnl_attr_nest_start(message_, 0);
        mnl_attr_put(message_, WGPEER_A_PUBLIC_KEY, WG_KEY_LEN, public_key.bytes.data());
        return *this;
    }
    MessageBuilder& counters(std::uint64_t receive, std::uint64_t transmit) {
        mnl_attr_put_u64(message_, WGPEER_A_RX_BYTES, receive);
        mnl_attr_put_u64(message_, WGPEER_A_TX_BYTES, transmit);
        return *this;
    }
    MessageBuilder& handshake(std::int64_t seconds, std::int64_t nanoseconds) {
        const std::int64_t time[] = {seconds, nanoseconds};
        mnl_attr_put(message_, WGPEER_A_LAST_HANDSHAKE_TIME, sizeof time, time);
        return *this;
    }
    template <class Address>
    MessageBuilder& endpoint(const Address& address) {
        mnl_attr_put(message_, WGPEER_A_ENDPOINT, sizeof address, &address);
        return *this;
    }
    MessageBuilder& begin_allowed_ips() {
        allowed_ips_ = mnl_attr_nest_start(message_, WGPEER_A_ALLOWEDIPS);
        return *this;
    }
    MessageBuilder& allowed_ip(std::uint16_t family, std::string address, std::uint8_t length) {
        nlattr* entry = mnl_attr_nest_start(message_, 0);
        mnl_attr_put_u8(message_, WGALLOWEDIP_A_CIDR_MASK, length);
        mnl_attr_put_u16(message_, WGALLOWEDIP_A_FAMILY, family);
        mnl_attr_put(message_, WGALLOWEDIP_A_IPADDR, address.size(), address.data());
        mnl_attr_nest_end(message_, entry);
        return *this;
    }
    MessageBuilder& end_allowed_ips() { return end(allowed_ips_); }
    MessageBuilder& end_peer() { return end(peer_); }
    MessageBuilder& end_peers() { return end(peers_); }

    const nlmsghdr& message() const { return *message_; }

  private:
    MessageBuilder& end(nlattr* nest) {
        mnl_attr_nest_end(message_, nest);
        return *this;
    }

    std::vector<char> buffer_ = std::vector<char>(4096);
    nlmsghdr* message_;
    nlattr* peers_ = nullptr;
    nlattr* peer_ = nullptr;
    nlattr* allowed_ips_ = nullptr;
};

const std::string address_v4 = {10, 1, 2, 3};
const std::string address_v6 = std::string("\xfd\0\0\0", 4) + std::string(11, '\0') + '\x09';

MessageBuilder full_message() {
    sockaddr_in6 endpoint{};
    endpoint.sin6_family = AF_INET6;
    endpoint.sin6_port = htons(51820);
    endpoint.sin6_addr.s6_addr[15] = 1;
    MessageBuilder builder;
    builder.device(key(9), 51820).begin_peers();
    builder.begin_peer(key(1)).counters(11, UINT64_MAX).handshake(1'700'000'000, 7).endpoint(endpoint);
    builder.begin_allowed_ips().allowed_ip(AF_INET, address_v4, 24).allowed_ip(AF_INET6, address_v6, 128);
    builder.end_allowed_ips().end_peer().begin_peer(key(2)).counters(3, 4).end_peer().end_peers();
    return builder;
}

TEST(DeviceDump, ReadsDeviceAndPeers) {
    WireGuardDevice device;
    DeviceDump dump(device);
    const auto done = dump.add(full_message().message());
    ASSERT_TRUE(done) << done.error().message();
    dump.finish();
    EXPECT_EQ(device.public_key, key(9));
    EXPECT_EQ(device.listen_port, 51820);
    ASSERT_EQ(device.peers.size(), 2U);
    const WireGuardPeer& peer = device.peers[0];
    EXPECT_EQ(peer.public_key, key(1));
    EXPECT_EQ(peer.receive_bytes, 11U);
    EXPECT_EQ(peer.transmit_bytes, UINT64_MAX);
    EXPECT_EQ(peer.last_handshake_ns, 1'700'000'000'000'000'007);
    EXPECT_EQ(peer.endpoint.value().to_string(), "[::1]:51820");
    EXPECT_EQ(peer.allowed_ips, (std::vector{*IpPrefix::parse("10.1.2.0/24"), *IpPrefix::parse("fd00::9")}));
    EXPECT_EQ(device.peers[1].receive_bytes, 3U);
    EXPECT_FALSE(device.peers[1].endpoint);
}

TEST(DeviceDump, ContinuesAPeerInTheNextMessage) {
    MessageBuilder first;
    first.device(key(9), 1).begin_peers().begin_peer(key(1)).counters(5, 6).begin_allowed_ips();
    first.allowed_ip(AF_INET, address_v4, 32).end_allowed_ips().end_peer().end_peers();
    MessageBuilder second;
    second.begin_peers().begin_peer(key(1)).begin_allowed_ips().allowed_ip(AF_INET6, address_v6, 64);
    second.end_allowed_ips().end_peer().begin_peer(key(2)).end_peer().end_peers();
    WireGuardDevice device;
    DeviceDump dump(device);
    ASSERT_TRUE(dump.add(first.message()));
    ASSERT_TRUE(dump.add(second.message()));
    dump.finish();
    ASSERT_EQ(device.peers.size(), 2U);
    EXPECT_EQ(device.peers[0].receive_bytes, 5U);
    EXPECT_EQ(device.peers[0].allowed_ips.size(), 2U);
    EXPECT_EQ(device.listen_port, 1);
}

TEST(DeviceDump, ReplacesWhatWasThere) {
    WireGuardDevice device;
    {
        DeviceDump dump(device);
        ASSERT_TRUE(dump.add(full_message().message()));
        dump.finish();
    }
    MessageBuilder builder;
    builder.begin_peers().begin_peer(key(1)).end_peer().end_peers();
    DeviceDump dump(device);
    ASSERT_TRUE(dump.add(builder.message()));
    dump.finish();
    EXPECT_EQ(device.public_key, WireGuardKey{});
    EXPECT_EQ(device.listen_port, 0);
    ASSERT_EQ(device.peers.size(), 1U);
    EXPECT_EQ(device.peers[0].receive_bytes, 0U);
    EXPECT_EQ(device.peers[0].last_handshake_ns, 0);
    EXPECT_TRUE(device.peers[0].allowed_ips.empty());
    EXPECT_FALSE(device.peers[0].endpoint);
}

TEST(DeviceDump, WritesAnIpv4Endpoint) {
    sockaddr_in endpoint{};
    endpoint.sin_family = AF_INET;
    endpoint.sin_port = htons(7);
    endpoint.sin_addr.s_addr = htonl(0xc6336407);
    MessageBuilder builder;
    builder.begin_peers().begin_peer(key(1)).endpoint(endpoint).end_peer().end_peers();
    WireGuardDevice device;
    ASSERT_TRUE(DeviceDump(device).add(builder.message()));
    EXPECT_EQ(device.peers.at(0).endpoint.value().to_string(), "198.51.100.7:7");
}

TEST(DeviceDump, RefusesWhatIsNotSane) {
    const auto error_of = [](MessageBuilder& builder) {
        WireGuardDevice device;
        const auto done = DeviceDump(device).add(builder.end_peers().message());
        return done ? std::string("none") : done.error().what;
    };
    MessageBuilder nameless;
    nameless.begin_peers().begin_allowed_ips().end_allowed_ips();
    EXPECT_THAT(error_of(nameless), HasSubstr("without a public key"));
    MessageBuilder timeless;
    timeless.begin_peers().begin_peer(key(1)).handshake(-5, 0).end_peer();
    EXPECT_THAT(error_of(timeless), HasSubstr("handshake"));
    const struct {
        std::string address;
        std::uint16_t family;
        std::uint8_t length;
    } wrong[] = {{address_v4, AF_INET, 33}, {address_v6, AF_INET6, 129}, {address_v4, AF_INET6, 64},
                 {"", AF_INET, 0},          {address_v4, AF_UNIX, 8},    {"", AF_INET6, 0}};
    for (const auto& each : wrong) {
        MessageBuilder builder;
        builder.begin_peers().begin_peer(key(1)).begin_allowed_ips();
        builder.allowed_ip(each.family, each.address, each.length).end_allowed_ips().end_peer();
        EXPECT_THAT(error_of(builder), HasSubstr("allowed IP")) << each.family << "/" << int{each.length};
    }
}

// Bytes in an allocation of exactly their size, so that AddressSanitizer sees the first read beyond.
struct ExactCopy {
    ExactCopy(const nlmsghdr& message, std::size_t length) : bytes(new char[length]) {
        std::memcpy(bytes.get(), &message, length);
        message_of()->nlmsg_len = static_cast<std::uint32_t>(length);
    }
    nlmsghdr* message_of() const { return reinterpret_cast<nlmsghdr*>(bytes.get()); }
    std::unique_ptr<char[]> bytes;
};

TEST(DeviceDump, NeverReadsBeyondAMessage) {
    const MessageBuilder whole = full_message();
    WireGuardDevice device;
    for (std::size_t length = sizeof(nlmsghdr); length <= whole.message().nlmsg_len; ++length) {
        const ExactCopy copy(whole.message(), length);
        std::ignore = DeviceDump(device).add(*copy.message_of());
    }
    std::mt19937 random(1);
    const std::size_t length = whole.message().nlmsg_len;
    std::uniform_int_distribution<std::size_t> place(sizeof(nlmsghdr), length - 1);
    for (int round = 0; round < 20000; ++round) {
        const ExactCopy copy(whole.message(), length);
        for (int i = 0; i < 4; ++i)
            copy.bytes[place(random)] = static_cast<char>(random());
        std::ignore = DeviceDump(device).add(*copy.message_of());
    }
}

TEST(NetlinkReader, SaysThatTheNamespaceIsGone) {
    WireGuardInterface interface;
    interface.name = "wg0";
    interface.netns = {{1, 1}, "/run/netns/pangolin_exporter-never-made", "never made"};
    const auto reader = open_netlink_reader(interface);
    ASSERT_FALSE(reader);
    EXPECT_EQ(reader.error().code, ENODEV);
}

}  // namespace
}  // namespace pangolin
