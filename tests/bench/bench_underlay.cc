// What the underlay programs cost a packet, above an empty program. Method as in bench_traffic.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "empty.skel.h"
#include "loader/underlay_probe.h"
#include "tests/support/packet_builder.h"
#include "tests/support/program_run.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {
namespace {

constexpr std::size_t packets_per_batch = 2000;
constexpr int batches = 15;
constexpr std::uint16_t port = 51820;

[[noreturn]] void fail(const Error& error) {
    fmt::print(stderr, "{}\n", error.message());
    std::exit(1);
}

double batch_ns(int program_fd, const std::vector<std::uint8_t>& frame, std::uint32_t repeat) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < packets_per_batch; ++i) {
        const auto run = run_program(program_fd, frame, {.repeat = repeat});
        if (!run)
            fail(run.error());
        sum += run->duration_ns;
    }
    return static_cast<double>(sum) / packets_per_batch;
}

void measure(const std::string& what, int program_fd, int empty_fd, const std::vector<std::uint8_t>& frame) {
    for (const std::uint32_t repeat : {64U, 1U}) {
        std::vector<double> differences;
        std::vector<double> empties;
        batch_ns(program_fd, frame, repeat);
        for (int batch = 0; batch < batches; ++batch) {
            const double empty = batch_ns(empty_fd, frame, repeat);
            differences.push_back(batch_ns(program_fd, frame, repeat) - empty);
            empties.push_back(empty);
        }
        std::ranges::sort(differences);
        std::ranges::sort(empties);
        fmt::print(
            "bench=underlay {} caches={} ns_above_empty={:.1f} p10={:.1f} p90={:.1f} empty_ns={:.1f}\n", what,
            repeat > 1 ? "warm" : "cold", differences[batches / 2], differences[batches / 10],
            differences[batches * 9 / 10], empties[batches / 2]);
    }
}

// A message of `type` and random content, from `from` to `to`.
std::vector<std::uint8_t> message(std::uint8_t type, std::size_t size, std::uint16_t from, std::uint16_t to) {
    std::mt19937_64 random(size);
    std::vector<std::uint8_t> udp(8 + size);
    std::generate(udp.begin() + 12, udp.end(), [&] { return static_cast<std::uint8_t>(random()); });
    const auto put16 = [&](std::size_t at, std::size_t value) {
        udp[at] = static_cast<std::uint8_t>(value >> 8);
        udp[at + 1] = static_cast<std::uint8_t>(value);
    };
    put16(0, from);
    put16(2, to);
    put16(4, udp.size());
    udp[8] = type;
    const IpAddress address = IpAddress::v4(0xc0000201);
    return PacketBuilder().ipv4({.source = address, .destination = address, .protocol = 17}).raw(udp).build();
}

std::vector<std::uint8_t> tcp_packet() {
    const IpAddress address = IpAddress::v4(0xc0000201);
    return PacketBuilder()
        .ipv4({.source = address, .destination = address, .protocol = 6})
        .tcp()
        .payload(512)
        .build();
}

WireGuardInterface tunnel_here() {
    WireGuardInterface tunnel;
    tunnel.name = "wg0";
    tunnel.index = 4242;
    tunnel.netns.path = "/proc/self/task/" + std::to_string(::gettid()) + "/ns/net";
    struct stat status{};
    ::stat(tunnel.netns.path.c_str(), &status);
    tunnel.netns.id = {.device = status.st_dev, .inode = status.st_ino};
    return tunnel;
}

void measure_all(int empty_fd) {
    const NewNetworkNamespace netns;
    auto probe = UnderlayProbe::open(tunnel_here(), {.port = port}, HookMode::automatic);
    if (!probe)
        fail(probe.error());
    const int ingress = (*probe)->program_fd(TRAFFIC_INGRESS);
    const int egress = (*probe)->program_fd(TRAFFIC_EGRESS);
    measure("packet=tcp direction=ingress", ingress, empty_fd, tcp_packet());
    measure("packet=tcp direction=egress", egress, empty_fd, tcp_packet());
    measure("packet=udp_other_port direction=ingress", ingress, empty_fd, message(4, 512, 9, 9));
    measure("packet=data open_handshakes=0 direction=ingress", ingress, empty_fd, message(4, 512, 9, port));
    measure("packet=data open_handshakes=0 direction=egress", egress, empty_fd, message(4, 512, port, 9));
    measure("packet=initiation_bad_mac1 direction=ingress", ingress, empty_fd, message(1, 148, 9, port));
    if (const auto sent = run_program(egress, message(2, 92, port, 9)); !sent)
        fail(sent.error());
    measure("packet=data open_handshakes=1 direction=ingress", ingress, empty_fd, message(4, 512, 9, port));
}

}  // namespace
}  // namespace pangolin::test

int main() {
    empty_bpf* const empty = empty_bpf__open_and_load();
    if (empty == nullptr) {
        fmt::print(stderr, "cannot load BPF programs (HINT: Run as root.)\n");
        return 1;
    }
    pangolin::test::measure_all(bpf_program__fd(empty->progs.empty));
    empty_bpf__destroy(empty);
    return 0;
}
