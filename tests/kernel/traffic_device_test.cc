// The traffic programs on a real interface without link-layer headers, where BPF_PROG_RUN cannot go: it
// always has an Ethernet header and one linear buffer.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "loader/traffic_program.h"
#include "tests/kernel/expected_traffic.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/route_cases.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {
namespace {

const IpAddress site4 = IpAddress::v4(0x64598005);
const IpAddress nowhere4 = IpAddress::v4(0x64598f01);
const IpAddress site6{IpFamily::v6, 0xfd00ULL << 48, 5};
const IpAddress nowhere6{IpFamily::v6, 0xfd00ULL << 48, 0x99};
constexpr std::uint32_t all_slots = 4;

std::vector<Route> site_routes() {
    return {route("100.89.128.4/30", 1), route("fd00::4/126", 2), route("100.89.128.8/30", 3)};
}

// From the site to an address that the host does not have, so that nothing answers.
PacketBuilder from_site(bool v4, std::uint8_t protocol) {
    PacketBuilder builder;
    if (v4)
        builder.ipv4({.source = site4, .destination = nowhere4, .protocol = protocol});
    else
        builder.ipv6({.source = site6, .destination = nowhere6, .next_header = protocol});
    return builder;
}

std::vector<std::uint8_t> without_ethernet(const PacketBuilder& builder) {
    std::vector<std::uint8_t> frame = builder.build();
    frame.erase(frame.begin(), frame.begin() + ethernet_length);
    return frame;
}

class TrafficDevice : public testing::TestWithParam<HookMode> {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        netns_.emplace();
        ASSERT_TRUE(netns_->entered());
        auto device = TunDevice::create("wgtest0");
        ASSERT_TRUE(device) << device.error().message();
        device_.emplace(std::move(*device));
    }

    TrafficProgram load(std::uint32_t l2_length = 0) {
        const RouteTable table = RouteTable::compile(site_routes());
        auto program = TrafficProgram::load({.slots = all_slots, .routes = table.capacity()}, l2_length);
        if (!program)
            throw std::runtime_error(program.error().message());
        program->publish(table);
        return std::move(*program);
    }

    TrafficProgram attached(std::uint32_t l2_length = 0) {
        TrafficProgram program = load(l2_length);
        const auto result = program.attach(device_->interface(), GetParam());
        EXPECT_TRUE(result) << result.error().message();
        EXPECT_EQ(program.hook(), GetParam() == HookMode::tcx ? HookKind::tcx : HookKind::clsact);
        return program;
    }

    void write(const PacketBuilder& packet, const TunPacketForm& form = {}) {
        const std::vector<std::uint8_t> bytes = without_ethernet(packet);
        const auto written = device_->write(bytes, form);
        ASSERT_TRUE(written) << written.error().message();
        expected_.add(TRAFFIC_INGRESS, bytes, form.gso_size);
    }

    // As a socket of the host sends it; in one super-packet if `segment` is not 0.
    void send(bool v4, std::size_t size, int segment = 0) {
        const UniqueFd socket(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        if (segment != 0) {
            ASSERT_EQ(::setsockopt(socket.get(), SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
        }
        sockaddr_in to4{};
        to4.sin_family = AF_INET;
        to4.sin_port = htons(9);
        to4.sin_addr.s_addr = htonl(site4.v4_value());
        sockaddr_in6 to6{};
        to6.sin6_family = AF_INET6;
        to6.sin6_port = htons(9);
        inet_pton(AF_INET6, "fd00::5", &to6.sin6_addr);
        const std::vector<std::uint8_t> payload(size);
        const auto* const to = v4 ? reinterpret_cast<sockaddr*>(&to4) : reinterpret_cast<sockaddr*>(&to6);
        ASSERT_EQ(::sendto(socket.get(), payload.data(), size, 0, to, v4 ? sizeof to4 : sizeof to6),
                  static_cast<ssize_t>(size))
            << std::strerror(errno);
    }

    // What came out of the device is what the host has sent, whatever the hook saw of it.
    std::size_t read_everything() {
        std::size_t packets = 0;
        while (const auto packet = device_->read(50)) {
            expected_.add(TRAFFIC_EGRESS, *packet);
            ++packets;
        }
        return packets;
    }

    void exchange() {
        for (const bool v4 : {true, false}) {
            write(from_site(v4, 6).tcp(8).payload(100));
            write(from_site(v4, 17).udp().payload(1));
            write(from_site(v4, v4 ? 1 : 58).payload(64));
            write(from_site(v4, 6).tcp(8).payload(40000), {.gso_size = 1400});
            write(from_site(v4, 17).udp().payload(5001), {.gso_size = 1000});
            write(from_site(v4, 17).udp().payload(8000), {.scattered = true});
            send(v4, 1);
            send(v4, 1300);
            send(v4, 5001, 1000);
        }
    }

    std::optional<NewNetworkNamespace> netns_;
    std::optional<TunDevice> device_;
    ExpectedTraffic expected_{site_routes()};
};

INSTANTIATE_TEST_SUITE_P(Hooks, TrafficDevice, testing::Values(HookMode::tcx, HookMode::clsact),
                         [](const auto& info) { return info.param == HookMode::tcx ? "tcx" : "clsact"; });

TEST_P(TrafficDevice, CountsWhatWasWrittenAndRead) {
    const TrafficProgram program = attached();
    exchange();
    EXPECT_EQ(read_everything(), 2U * (2 + 6));
    expected_.expect_slots(program);
    expected_.expect_losses(program);
}

TEST_P(TrafficDevice, CountsFragmentsOfOneDatagram) {
    const TrafficProgram program = attached();
    send(true, 6000);
    send(false, 6000);
    EXPECT_GT(read_everything(), 8U);
    expected_.expect_slots(program);
}

// The test that a program for Ethernet cannot pass.
TEST_P(TrafficDevice, CountsNothingRightBehindAnEthernetHeader) {
    const TrafficProgram right = attached();
    const TrafficProgram wrong = [this] {
        TrafficProgram program = load(ethernet_length);
        // Beside the right one: both hooks take several programs, clsact one a process.
        EXPECT_TRUE(program.attach(device_->interface(), HookMode::tcx));
        return program;
    }();
    exchange();
    read_everything();
    expected_.expect_slots(right);
    for (std::uint32_t slot = 1; slot < all_slots; ++slot)
        EXPECT_EQ(total(wrong.read(slot)).packets, 0U) << slot;
}

std::uint32_t program_id(int fd) {
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    return bpf_prog_get_info_by_fd(fd, &info, &length) == 0 ? info.id : 0;
}

// The kernel frees programs some time after their last use.
bool gone(std::uint32_t id) {
    for (int attempt = 0; attempt < 100; ++attempt) {
        const UniqueFd fd(bpf_prog_get_fd_by_id(id));
        if (!fd)
            return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
}

bpf_tc_hook clsact_of(const TunDevice& device, int point) {
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(device.interface().index);
    hook.attach_point = static_cast<bpf_tc_attach_point>(point);
    return hook;
}

// Whether the device had a clsact qdisc; it has one afterwards.
bool has_clsact(const TunDevice& device) {
    bpf_tc_hook hook = clsact_of(device, BPF_TC_INGRESS | BPF_TC_EGRESS);
    return bpf_tc_hook_create(&hook) == -EEXIST;
}

TEST_P(TrafficDevice, LeavesNothingBehind) {
    std::uint32_t ids[TRAFFIC_DIRECTIONS] = {};
    {
        const TrafficProgram program = attached();
        for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS})
            ids[direction] = program_id(program.program_fd(direction));
        EXPECT_NE(ids[0], 0U);
    }
    EXPECT_TRUE(gone(ids[TRAFFIC_INGRESS]));
    EXPECT_TRUE(gone(ids[TRAFFIC_EGRESS]));
    EXPECT_FALSE(has_clsact(*device_));
}

TEST_P(TrafficDevice, LeavesTheQdiscOfSomebodyElse) {
    EXPECT_FALSE(has_clsact(*device_));
    {
        const TrafficProgram program = attached();
    }
    EXPECT_TRUE(has_clsact(*device_));
}

TEST_P(TrafficDevice, LeavesTheFilterOfSomebodyElse) {
    const TrafficProgram foreign = load();
    for (const int point : {BPF_TC_INGRESS, BPF_TC_EGRESS}) {
        bpf_tc_opts filter{};
        filter.sz = sizeof filter;
        filter.handle = 1;
        filter.priority = 77;
        {
            const TrafficProgram program = attached();
            ASSERT_EQ(has_clsact(*device_), GetParam() == HookMode::clsact || point == BPF_TC_EGRESS);
            filter.prog_fd = foreign.program_fd(TRAFFIC_INGRESS);
            const bpf_tc_hook hook = clsact_of(*device_, point);
            ASSERT_EQ(bpf_tc_attach(&hook, &filter), 0);
        }
        const bpf_tc_hook hook = clsact_of(*device_, point);
        filter.prog_fd = filter.prog_id = filter.flags = 0;
        EXPECT_EQ(bpf_tc_query(&hook, &filter), 0);
    }
}

TEST_P(TrafficDevice, CountsEveryPacketOnceWhileProgramsAreReplaced) {
    TrafficProgram program = attached();
    const std::vector<std::uint8_t> packet = without_ethernet(from_site(true, 17).udp().payload(50));
    // Leaves the processors time to load programs.
    constexpr std::chrono::microseconds pause(20);
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> written = 0;
    std::atomic<std::uint64_t> sent = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            for (; !stop; std::this_thread::sleep_for(pause))
                written += device_->write(packet).has_value();
        });
    }
    threads.emplace_back([&] {
        for (; !stop; std::this_thread::sleep_for(pause)) {
            send(true, 50);
            ++sent;
        }
    });
    // Nobody reads: what the device drops when its queue is full has passed the hook all the same.
    std::vector<TrafficProgram> retired;
    std::vector<traffic_count> final_counts;
    for (int round = 0; round < 15; ++round) {
        TrafficProgram next = load();
        const auto taken = next.take_over(program);
        ASSERT_TRUE(taken) << taken.error().message();
        EXPECT_EQ(program.hook(), HookKind::none);
        final_counts.push_back(total(program));
        retired.push_back(std::move(program));
        program = std::move(next);
    }
    stop = true;
    threads.clear();
    std::uint64_t counted[TRAFFIC_DIRECTIONS] = {};
    retired.push_back(std::move(program));
    final_counts.push_back(total(retired.back()));
    for (std::size_t i = 0; i < retired.size(); ++i) {
        EXPECT_EQ(total(retired[i]).packets, final_counts[i].packets) << "after take_over() returned, " << i;
        for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS})
            counted[direction] += retired[i].read(1).count[direction][TRAFFIC_UDP].packets;
    }
    EXPECT_EQ(counted[TRAFFIC_INGRESS], written);
    EXPECT_EQ(counted[TRAFFIC_EGRESS], sent);
}

}  // namespace
}  // namespace pangolin::test
