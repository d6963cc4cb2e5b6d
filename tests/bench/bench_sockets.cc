// What the socket programs cost a connection, and whether they lose one under load.
//
// Method: batches of connections from one namespace to another, each with a byte asked and a byte answered,
// on one thread, so that the kernel's work is done in its system calls. The variants take turns within each
// round; printed are medians of the rounds' differences to the batch without programs, in CPU time of the
// thread.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <thread>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/socket_program.h"
#include "tests/support/linked_namespaces.h"
#include "tests/support/tcp_sockets.h"

namespace pangolin::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t connections_per_batch = 500;
constexpr std::size_t rounds = 15;
constexpr std::uint32_t index = 7;
constexpr std::uint16_t other_port = listening + 1000;

[[noreturn]] void fail(std::string_view what) {
    fmt::print(stderr, "bench_sockets: {}\n", what);
    std::exit(1);
}

double thread_cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

double process_cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The target closes first, so that the ports of this side are free at once.
void connect_once(const UniqueFd& listener, std::uint16_t port) {
    ConnectionPair both = connect_pair(listener, "10.89.0.2", port);
    char byte = 'x';
    if (!both || ::send(both.client.get(), &byte, 1, 0) != 1 || ::recv(both.server.get(), &byte, 1, 0) != 1 ||
        ::send(both.server.get(), &byte, 1, 0) != 1 || ::recv(both.client.get(), &byte, 1, 0) != 1)
        fail("no connection");
    both.server.reset();
}

double batch_ns(const UniqueFd& listener) {
    const double begin = thread_cpu_ns();
    for (std::uint64_t i = 0; i < connections_per_batch; ++i)
        connect_once(listener, listening);
    return (thread_cpu_ns() - begin) / static_cast<double>(connections_per_batch);
}

SocketProgram attach(const LinkedNamespaces& net, const std::vector<SocketTarget>& targets) {
    auto program = SocketProgram::attach();
    if (!program)
        fail(program.error().message());
    if (!program->set_targets(targets) || !program->set_namespaces({net.near_interface().netns}))
        fail("cannot set targets");
    return std::move(*program);
}

// As many targets as a large installation has, among them the one that is dialled.
std::vector<SocketTarget> many_targets(std::uint16_t port) {
    std::vector<SocketTarget> targets;
    targets.reserve(5001);
    for (std::uint32_t i = 0; i < 5000; ++i)
        targets.push_back({.address = IpAddress::v4(0x64598000U + i), .port = 40000, .index = 100 + i});
    targets.push_back({.address = IpAddress::v4(0x0a590002), .port = port, .index = index});
    return targets;
}

// Time in the programs by the kernel's own statistics, which add some 20 ns to each run.
double program_ns() {
    double sum = 0;
    for (std::uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
        const UniqueFd program(bpf_prog_get_fd_by_id(id));
        bpf_prog_info info{};
        std::uint32_t size = sizeof info;
        if (program && bpf_prog_get_info_by_fd(program.get(), &info, &size) == 0 &&
            std::string_view(info.name).starts_with("socket_"))
            sum += static_cast<double>(info.run_time_ns);
    }
    return sum;
}

double median(std::vector<double> values) {
    std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
    return values[values.size() / 2];
}

void measure_cost(const LinkedNamespaces& net, const UniqueFd& listener) {
    struct Variant {
        Variant(const char* with_name, std::uint16_t port) : name(with_name), target_port(port) {}
        const char* name;
        std::uint16_t target_port;
        std::vector<double> added, ratio, inside;
    };
    std::array variants{Variant("counted", listening), Variant("not_a_target", closed)};
    std::vector<double> without;
    batch_ns(listener);
    for (std::size_t round = 0; round < rounds; ++round) {
        const double bare = batch_ns(listener);
        without.push_back(bare);
        for (Variant& variant : variants) {
            const SocketProgram program = attach(net, many_targets(variant.target_port));
            const double with = batch_ns(listener);
            variant.added.push_back(with - bare);
            variant.ratio.push_back(with / bare);
            const UniqueFd statistics(bpf_enable_stats(BPF_STATS_RUN_TIME));
            batch_ns(listener);
            variant.inside.push_back(program_ns() / static_cast<double>(connections_per_batch));
        }
    }
    fmt::print("bench=sockets connections=bare cpu_ns={:.0f}\n", median(without));
    for (Variant& variant : variants)
        fmt::print(
            "bench=sockets connections={} targets=5001 cpu_ns_added={:.0f} ratio={:.3f} "
            "ns_in_programs={:.0f}\n",
            variant.name, median(variant.added), median(variant.ratio), median(variant.inside));
}

// Two threads make connections as fast as they can while live ones are sampled and counts read every second.
void measure_load(const LinkedNamespaces& net, const UniqueFd& listener, const UniqueFd& other) {
    constexpr auto duration = std::chrono::seconds(20);
    auto targets = many_targets(listening);
    targets.push_back({.address = IpAddress::v4(0x0a590002), .port = other_port, .index = index});
    SocketProgram program = attach(net, targets);
    const auto until = Clock::now() + duration;
    const auto begin = Clock::now();
    std::array<std::uint64_t, 2> made{};
    std::array<double, 2> dialling_ns{};
    const double cpu_before = process_cpu_seconds();
    {
        const auto work = [&](const UniqueFd& on, std::uint16_t port, std::size_t thread) {
            for (; Clock::now() < until; ++made[thread])
                connect_once(on, port);
            dialling_ns[thread] = thread_cpu_ns();
        };
        const std::jthread first([&] { work(listener, listening, 0); });
        const std::jthread second([&] { work(other, other_port, 1); });
        while (Clock::now() < until) {
            if (const auto sampled = program.sample(); !sampled)
                fail(sampled.error().message());
            program.read();
            pause_for(std::chrono::seconds(1));
        }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const double cpu = process_cpu_seconds() - cpu_before;
    const double reader = cpu - (dialling_ns[0] + dialling_ns[1]) / 1e9;
    const auto counts = program.take(index).value_or(socket_counts{});
    const std::uint64_t all = made[0] + made[1];
    const SocketLosses lost = program.lost();
    fmt::print(
        "bench=sockets load_seconds={:.1f} connections={} per_second={:.0f} cpu_seconds={:.2f} "
        "reader_cpu_seconds={:.3f} attempts={} established={} ends_ordinary={} bytes_out={} bytes_in={} "
        "lost={}\n",
        seconds, all, static_cast<double>(all) / seconds, cpu, reader, counts.attempts, counts.established,
        counts.ends[SOCKET_END_ORDINARY], counts.bytes[TRAFFIC_EGRESS], counts.bytes[TRAFFIC_INGRESS],
        lost.counts_full + lost.sockets_full + lost.ends_missed);
    if (counts.attempts != all || counts.established != all || counts.ends[SOCKET_END_ORDINARY] != all ||
        counts.bytes[TRAFFIC_EGRESS] != all || counts.bytes[TRAFFIC_INGRESS] != all)
        fail("connections were made and not counted");
}

}  // namespace
}  // namespace pangolin::test

int main() {
    using namespace pangolin::test;
    const LinkedNamespaces net;
    if (!net.ready())
        fail("cannot make network namespaces (HINT: Run as root.)");
    const pangolin::UniqueFd listener = net.far_socket([] { return listen_on_all(); });
    const pangolin::UniqueFd other = net.far_socket([] { return listen_on_all(0, other_port); });
    measure_cost(net, listener);
    measure_load(net, listener, other);
    return 0;
}
