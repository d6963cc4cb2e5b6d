// The traffic programs on a real interface without link-layer headers, where BPF_PROG_RUN cannot go: it
// always has an Ethernet header and one linear buffer.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "loader/netlink.h"
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

// Ports of the sockets' packets and of those that are built here.
std::vector<CountedTarget> site_targets() {
    return {{site4, 9, TargetProtocol::udp, 1}, {site4, 0, TargetProtocol::tcp, 2},
            {site4, 0, TargetProtocol::udp, 3}, {site6, 9, TargetProtocol::udp, 4},
            {site6, 0, TargetProtocol::tcp, 5}, {site6, 0, TargetProtocol::udp, 6}};
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
        expected_.set_targets(site_targets());
        auto device = TunDevice::create("wgtest0");
        ASSERT_TRUE(device) << device.error().message();
        device_.emplace(std::move(*device));
    }

    TrafficProgram load(std::uint32_t l2_length = 0) {
        const RouteTable table = RouteTable::compile(site_routes());
        const TargetTable targets = TargetTable::compile(site_targets());
        auto program = TrafficProgram::load(
            {.slots = all_slots, .routes = table.capacity(), .targets = targets.capacity()}, l2_length);
        if (!program)
            throw std::runtime_error(program.error().message());
        if (!program->publish(table, targets))
            throw std::runtime_error("cannot publish");
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
    expected_.expect_targets(program);
    expected_.expect_losses(program);
}

TEST_P(TrafficDevice, CountsFragmentsOfOneDatagram) {
    const TrafficProgram program = attached();
    send(true, 6000);
    send(false, 6000);
    EXPECT_GT(read_everything(), 8U);
    expected_.expect_slots(program);
    expected_.expect_targets(program);
    expected_.expect_losses(program);
}

// The test that a program for Ethernet cannot pass.
TEST_P(TrafficDevice, CountsNothingRightBehindAnEthernetHeader) {
    const TrafficProgram right = attached();
    const TrafficProgram wrong = [this] {
        TrafficProgram program = load(ethernet_length);
        // Beside the right one: both hooks take several programs, clsact one of a program.
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
bool gone(std::uint32_t id, int attempts = 100) {
    for (int attempt = 0; attempt < attempts; ++attempt) {
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
        filter.prog_fd = 0;
        filter.prog_id = filter.flags = 0;
        EXPECT_EQ(bpf_tc_query(&hook, &filter), 0);
    }
}

// A program that lets every packet pass and ends the chain.
UniqueFd chain_end() {
    const bpf_insn instructions[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = TC_ACT_OK},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    };
    return UniqueFd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "chain_end", "GPL", instructions,
                                  std::size(instructions), nullptr));
}

bool add_filter(const TunDevice& device, int point, int program_fd, std::uint32_t priority) {
    const bpf_tc_hook hook = clsact_of(device, point);
    bpf_tc_opts filter{};
    filter.sz = sizeof filter;
    filter.handle = 1;
    filter.priority = priority;
    filter.prog_fd = program_fd;
    return bpf_tc_attach(&hook, &filter) == 0;
}

TEST_P(TrafficDevice, ComesBeforeAProgramThatEndsTheChain) {
    const UniqueFd foreign = chain_end();
    ASSERT_TRUE(foreign);
    std::vector<UniqueFd> links;
    if (GetParam() == HookMode::tcx) {
        // BPF_TCX_INGRESS and BPF_TCX_EGRESS, which headers before Linux 6.6 lack.
        for (const int point : {46, 47}) {
            const int device = static_cast<int>(device_->interface().index);
            const auto type = static_cast<bpf_attach_type>(point);
            links.emplace_back(bpf_link_create(foreign.get(), device, type, nullptr));
            ASSERT_TRUE(links.back()) << std::strerror(errno);
        }
    } else {
        ASSERT_FALSE(has_clsact(*device_));
        for (const std::uint32_t priority : {1U, 2U}) {
            ASSERT_TRUE(add_filter(*device_, BPF_TC_INGRESS, foreign.get(), priority));
            ASSERT_TRUE(add_filter(*device_, BPF_TC_EGRESS, foreign.get(), priority));
        }
    }
    const TrafficProgram program = attached();
    exchange();
    read_everything();
    expected_.expect_slots(program);
}

using ClsactDevice = TrafficDevice;
INSTANTIATE_TEST_SUITE_P(Hooks, ClsactDevice, testing::Values(HookMode::clsact),
                         [](const auto&) { return "clsact"; });

TEST_P(ClsactDevice, SharesAPriority) {
    const TrafficProgram other = load();
    ASSERT_FALSE(has_clsact(*device_));
    ASSERT_TRUE(add_filter(*device_, BPF_TC_INGRESS, other.program_fd(TRAFFIC_INGRESS), 1));
    ASSERT_TRUE(add_filter(*device_, BPF_TC_EGRESS, other.program_fd(TRAFFIC_EGRESS), 1));
    const TrafficProgram program = attached();
    exchange();
    read_everything();
    expected_.expect_slots(program);
    expected_.expect_slots(other);
}

// Filters of one priority are of one kind and one protocol.
TEST_P(ClsactDevice, TakesTheNextPriorityWhenTheFirstIsForIpv4Only) {
    const UniqueFd foreign = chain_end();
    ASSERT_FALSE(has_clsact(*device_));
    auto socket = NetlinkSocket::open(NETLINK_ROUTE);
    ASSERT_TRUE(socket);
    std::array<char, 256> buffer{};
    nlmsghdr* const request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = RTM_NEWTFILTER;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    auto* const place = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(tcmsg)));
    place->tcm_ifindex = static_cast<int>(device_->interface().index);
    place->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
    place->tcm_info = TC_H_MAKE(1U << 16, htons(ETH_P_IP));
    mnl_attr_put_strz(request, TCA_KIND, "bpf");
    nlattr* const options = mnl_attr_nest_start(request, TCA_OPTIONS);
    mnl_attr_put_u32(request, TCA_BPF_FD, static_cast<std::uint32_t>(foreign.get()));
    mnl_attr_put_strz(request, TCA_BPF_NAME, "chain_end");
    mnl_attr_nest_end(request, options);
    const auto added = socket->exchange(request, [](const nlmsghdr&) { return Result<void>(); });
    ASSERT_TRUE(added) << added.error().message();
    TrafficProgram program = attached();
    EXPECT_TRUE(program.attached());
    TrafficProgram next = load();
    ASSERT_TRUE(next.take_over(program));
    EXPECT_TRUE(next.attached());
    EXPECT_FALSE(program.attached());
}

// Attaches a program as another exporter would, in a process that ends without detaching. Writes the number
// of its ingress program.
[[noreturn]] void attach_and_die(TrafficProgram program, const WireGuardInterface& interface, int report) {
    std::uint32_t id = 0;
    if (program.attach(interface, HookMode::clsact))
        id = program_id(program.program_fd(TRAFFIC_INGRESS));
    _exit(write(report, &id, sizeof id) == sizeof id ? 0 : 1);
}

TEST_P(ClsactDevice, ReplacesWhatAKilledExporterLeft) {
    int report[2];
    ASSERT_EQ(pipe2(report, O_CLOEXEC), 0);
    const UniqueFd ends[] = {UniqueFd(report[0]), UniqueFd(report[1])};
    const pid_t child = fork();
    if (child == 0)
        attach_and_die(load(), device_->interface(), report[1]);
    waitpid(child, nullptr, 0);
    std::uint32_t left = 0;
    ASSERT_EQ(read(report[0], &left, sizeof left), ssize_t{sizeof left});
    ASSERT_TRUE(UniqueFd(bpf_prog_get_fd_by_id(left)));
    const TrafficProgram program = attached();
    EXPECT_TRUE(gone(left));
    EXPECT_TRUE(program.attached());
}

// The number of its process means another one here, or none: here, one that has ended.
TEST_P(ClsactDevice, LeavesTheFilterOfAnotherPidNamespace) {
    int report[2];
    ASSERT_EQ(pipe2(report, O_CLOEXEC), 0);
    const UniqueFd ends[] = {UniqueFd(report[0]), UniqueFd(report[1])};
    pid_t unused = 2;
    while (kill(unused, 0) == 0)
        ++unused;
    const pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWPID) != 0)
            _exit(1);
        const pid_t first = fork();
        if (first != 0)
            _exit(waitpid(first, nullptr, 0) == first ? 0 : 1);
        // Process 1 of the namespace; the next ones are 2, 3 and so on.
        for (pid_t next = 0; next < unused;) {
            next = fork();
            if (next == 0 && getpid() == unused)
                attach_and_die(load(), device_->interface(), report[1]);
            if (next <= 0)
                _exit(0);
            waitpid(next, nullptr, 0);
        }
        _exit(0);
    }
    waitpid(child, nullptr, 0);
    std::uint32_t other = 0;
    ASSERT_EQ(read(report[0], &other, sizeof other), ssize_t{sizeof other});
    {
        const TrafficProgram program = attached();
        EXPECT_TRUE(program.attached());
    }
    EXPECT_FALSE(gone(other, 20));
    EXPECT_TRUE(has_clsact(*device_));
}

// Detaches the tcx link of a program as "bpftool link detach" does.
bool detach_link(std::uint32_t program) {
    std::uint32_t id = 0;
    while (bpf_link_get_next_id(id, &id) == 0) {
        const UniqueFd link(bpf_link_get_fd_by_id(id));
        bpf_link_info info{};
        std::uint32_t length = sizeof info;
        if (link && bpf_link_get_info_by_fd(link.get(), &info, &length) == 0 && info.prog_id == program)
            return bpf_link_detach(link.get()) == 0;
    }
    return false;
}

TEST_P(TrafficDevice, KnowsThatOneDirectionWasDetached) {
    for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS}) {
        const TrafficProgram program = attached();
        EXPECT_TRUE(program.attached());
        if (GetParam() == HookMode::tcx) {
            ASSERT_TRUE(detach_link(program_id(program.program_fd(direction))));
        } else {
            // All filters of a direction.
            bpf_tc_hook hook =
                clsact_of(*device_, direction == TRAFFIC_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS);
            ASSERT_EQ(bpf_tc_hook_destroy(&hook), 0);
        }
        EXPECT_FALSE(program.attached());
    }
}

TEST_P(TrafficDevice, KnowsThatTheQdiscOrTheInterfaceIsGone) {
    EXPECT_FALSE(load().attached());
    TrafficProgram program = attached();
    if (GetParam() == HookMode::clsact) {
        bpf_tc_hook hook = clsact_of(*device_, BPF_TC_INGRESS | BPF_TC_EGRESS);
        ASSERT_EQ(bpf_tc_hook_destroy(&hook), 0);
        EXPECT_FALSE(program.attached());
        ASSERT_TRUE(program.attach(device_->interface(), GetParam()));
        EXPECT_TRUE(program.attached());
    }
    device_.reset();
    EXPECT_FALSE(program.attached());
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
