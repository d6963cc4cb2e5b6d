// The underlay probe on real devices: each message is seen, and seen once.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "loader/base/unique_fd.h"
#include "tests/kernel/underlay_fixture.h"
#include "tests/support/packet_builder.h"

namespace pangolin::test {
namespace {

using testing::Contains;
using testing::Not;

const UdpEnd host{IpAddress::v4(0xc0000201), listen_port};
const UdpEnd site{IpAddress::v4(0xc6336407), 40000};

class UnderlayDevices : public UnderlayFixture, public testing::WithParamInterface<HookMode> {
  protected:
    void SetUp() override {
        UnderlayFixture::SetUp();
        if (Test::HasFatalFailure() || Test::IsSkipped())
            return;
        // Otherwise the kernel sends packets of its own accord.
        std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1;
        ip("link set lo up");
        add_pair("pgx0", "pgx1");
    }

    static void ip(const std::string& arguments) {
        ASSERT_EQ(std::system(("ip " + arguments).c_str()), 0) << arguments;
    }
    static void add_pair(const std::string& near, const std::string& far) {
        ip("link add " + near + " type veth peer name " + far);
        ip("link set " + near + " up");
        ip("link set " + far + " up");
    }
    static std::array<std::uint8_t, 6> hardware_address(const std::string& device) {
        const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq request{};
        device.copy(request.ifr_name, IFNAMSIZ - 1);
        EXPECT_EQ(::ioctl(socket.get(), SIOCGIFHWADDR, &request), 0);
        std::array<std::uint8_t, 6> address{};
        std::memcpy(address.data(), request.ifr_hwaddr.sa_data, address.size());
        return address;
    }

    // Out of `device`, from its Ethernet address to that of `receiver`.
    static void transmit(const std::string& device, std::vector<std::uint8_t> frame,
                         const std::string& receiver) {
        const auto destination = hardware_address(receiver);
        const auto source = hardware_address(device);
        std::ranges::copy(destination, frame.begin());
        std::ranges::copy(source, frame.begin() + destination.size());
        const UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
        sockaddr_ll to{};
        to.sll_family = AF_PACKET;
        to.sll_protocol = static_cast<std::uint16_t>(frame[12] | frame[13] << 8);
        to.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
        ASSERT_EQ(::sendto(socket.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to),
                           sizeof to),
                  static_cast<ssize_t>(frame.size()))
            << std::strerror(errno);
        // What a device receives is worked on a little later.
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }

    Message forged() { return initiation(site_key_, 1, random_); }
    void receive_forged(const std::string& far, const std::string& near) {
        transmit(far, udp_frame(site, host, forged()), near);
    }
    void follow() {
        const auto followed = probe_->follow(listener_);
        ASSERT_TRUE(followed) << followed.error().message();
    }

    const Outcomes one_forgery_{{HANDSHAKE_INVALID_MAC, 1}};
    PublicKey site_key_{7};
};

INSTANTIATE_TEST_SUITE_P(Hooks, UnderlayDevices, testing::Values(HookMode::automatic, HookMode::clsact),
                         [](const auto& info) {
                             return info.param == HookMode::automatic ? "automatic" : "clsact";
                         });

TEST_P(UnderlayDevices, SeeAHandshake) {
    open_probe(GetParam());
    EXPECT_EQ(probe_->devices(), (std::vector<std::string>{"lo", "pgx1", "pgx0"}));
    EXPECT_EQ(probe_->attachments(), 6U);
    transmit("pgx1", udp_frame(site, host, initiation(listener_.public_key, 0x11, random_)), "pgx0");
    transmit("pgx0", udp_frame(host, site, response(site_key_, 0x22, 0x11, random_)), "pgx1");
    transmit("pgx1", udp_frame(site, host, data(0x22, 32)), "pgx0");
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
    ASSERT_EQ(handshakes_.size(), 1U);
    EXPECT_TRUE(is_at(handshakes_[0].identity, site));
    EXPECT_GE(handshakes_[0].end_ns - handshakes_[0].begin_ns, 15'000'000U);
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

TEST_P(UnderlayDevices, IncludeTheLoopback) {
    open_probe(GetParam());
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(listen_port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const Message message = forged();
    ASSERT_GT(::sendto(socket.get(), message.data(), message.size(), 0, reinterpret_cast<sockaddr*>(&to),
                       sizeof to),
              0);
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

TEST_P(UnderlayDevices, LeaveBridgePortsToTheBridge) {
    ip("link add pgxbr type bridge");
    // It would drop packets whose IP checksum is as wrong as ours.
    std::ofstream("/proc/sys/net/bridge/bridge-nf-call-iptables") << 0;
    ip("link set pgx0 master pgxbr");
    ip("link set pgxbr up");
    // The bridge learns a little later that its port is up.
    for (int i = 0; i < 100 && std::system("ip -d link show pgx0 | grep -q 'state forwarding'") != 0; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
    open_probe(GetParam());
    EXPECT_THAT(probe_->devices(), Contains("pgxbr"));
    EXPECT_THAT(probe_->devices(), Not(Contains("pgx0")));
    receive_forged("pgx1", "pgxbr");
    EXPECT_EQ(take_outcomes(), one_forgery_);
    transmit("pgxbr", udp_frame(host, site, response(site_key_, 0x22, 0x11, random_)), "pgx1");
    transmit("pgx1", udp_frame(site, host, data(0x22, 32)), "pgxbr");
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
    EXPECT_EQ(probe_->losses(), HandshakeLosses{});
    // A port that leaves its bridge is a device of its own.
    ip("link set pgx0 nomaster");
    follow();
    EXPECT_THAT(probe_->devices(), Contains("pgx0"));
}

TEST_P(UnderlayDevices, SeeAVlansPacketsOnce) {
    if (std::system("ip link add link pgx0 name pgx0.5 type vlan id 5 2>/dev/null") != 0)
        GTEST_SKIP() << "no VLAN devices here";
    ip("link add link pgx1 name pgx1.5 type vlan id 5");
    ip("link set pgx0.5 up");
    ip("link set pgx1.5 up");
    open_probe(GetParam());
    receive_forged("pgx1.5", "pgx0.5");
    EXPECT_EQ(take_outcomes(), one_forgery_);
    transmit("pgx0.5", udp_frame(host, site, response(site_key_, 0x22, 0x11, random_)), "pgx1.5");
    transmit("pgx1.5", udp_frame(site, host, data(0x22, 32)), "pgx0.5");
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
}

TEST_P(UnderlayDevices, AreFollowed) {
    open_probe(GetParam());
    add_pair("pgx2", "pgx3");
    receive_forged("pgx3", "pgx2");
    EXPECT_EQ(take_outcomes(), Outcomes{});
    follow();
    EXPECT_EQ(probe_->attachments(), 10U);
    receive_forged("pgx3", "pgx2");
    EXPECT_EQ(take_outcomes(), one_forgery_);
    ip("link del pgx2");
    follow();
    EXPECT_EQ(probe_->devices(), (std::vector<std::string>{"lo", "pgx1", "pgx0"}));
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

// As "bpftool link detach" does: all links of a program.
void detach_links(int program_fd) {
    bpf_prog_info program{};
    std::uint32_t length = sizeof program;
    ASSERT_EQ(bpf_prog_get_info_by_fd(program_fd, &program, &length), 0);
    for (std::uint32_t id = 0; bpf_link_get_next_id(id, &id) == 0;) {
        const UniqueFd link(bpf_link_get_fd_by_id(id));
        bpf_link_info info{};
        length = sizeof info;
        if (link && bpf_link_get_info_by_fd(link.get(), &info, &length) == 0 && info.prog_id == program.id)
            bpf_link_detach(link.get());
    }
}

TEST_P(UnderlayDevices, GetTheirProgramsAgain) {
    open_probe(GetParam());
    if (probe_->hook() == "tcx")
        detach_links(probe_->program_fd(TRAFFIC_INGRESS));
    else
        ASSERT_EQ(std::system("tc qdisc del dev pgx0 clsact"), 0);
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), Outcomes{});
    follow();
    EXPECT_EQ(probe_->attachments(), 6U);
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

// Two interfaces of one namespace have the same devices under them.
TEST_P(UnderlayDevices, AreSharedByTwoProbes) {
    open_probe(GetParam());
    {
        auto other = UnderlayProbe::open(tunnel_here(), listener_, GetParam());
        ASSERT_TRUE(other) << other.error().message();
        receive_forged("pgx1", "pgx0");
        EXPECT_EQ(take_outcomes(), one_forgery_);
        EXPECT_EQ((*other)->take_counts().size(), 1U);
    }
    follow();
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

TEST_P(UnderlayDevices, LeaveForwardedPackets) {
    ip("addr add 192.0.2.1/24 dev pgx0");
    ip("route add 203.0.113.0/24 via 192.0.2.9 dev pgx0");
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << 1;
    open_probe(GetParam());
    transmit("pgx1", udp_frame(site, {IpAddress::v4(0xcb007105), listen_port}, forged()), "pgx0");
    EXPECT_EQ(take_outcomes(), Outcomes{});
    receive_forged("pgx1", "pgx0");
    EXPECT_EQ(take_outcomes(), one_forgery_);
}

TEST_P(UnderlayDevices, MayLackALinkLayer) {
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 0;
    auto tun = TunDevice::create("pgxtun");
    ASSERT_TRUE(tun) << tun.error().message();
    open_probe(GetParam());
    EXPECT_THAT(probe_->devices(), Contains("pgxtun"));
    const auto write = [&](const Message& message, const TunPacketForm& form) {
        const auto frame = udp_frame(site, host, message);
        return tun->write(std::span(frame).subspan(ethernet_length), form);
    };
    ASSERT_TRUE(write(forged(), {}));
    EXPECT_EQ(take_outcomes(), one_forgery_);
    // Headers outside the linear part; TUN takes UDP super-packets since Linux 6.2.
    if (write(joined({data(1, 3000), data(2, 3000), forged()}), {.gso_size = 3000, .scattered = true})) {
        EXPECT_EQ(take_outcomes(), one_forgery_);
    }
    // As the tunnel itself it is no device under the tunnel.
    auto other = UnderlayProbe::open(tun->interface(), listener_, GetParam());
    ASSERT_TRUE(other) << other.error().message();
    EXPECT_THAT((*other)->devices(), Not(Contains("pgxtun")));
}

}  // namespace
}  // namespace pangolin::test
