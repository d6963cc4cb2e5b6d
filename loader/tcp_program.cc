#include "loader/tcp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <utility>

#include "loader/bpf_error.h"
#include "loader/bpf_iterator.h"
#include "loader/bpf_map.h"
#include "loader/kernel_btf.h"
#include "loader/pinned_maps.h"
#include "tcp.skel.h"

namespace pangolin {
namespace {

Result<void> configure(tcp_bpf& skeleton, const WireGuardInterface& interface, const PeerLookup& peers,
                       std::uint32_t max_peers) {
    const auto kernel = KernelBtf::load();
    if (!kernel)
        return std::unexpected(kernel.error());
    for (const char* const tracepoint : {"inet_sock_set_state", "tcp_retransmit_skb"}) {
        if (kernel->tracepoint_arguments(tracepoint) == 0)
            return failure(std::string("the kernel has no tracepoint ") + tracepoint,
                           "TCP metrics need CONFIG_INET and Linux 5.10 or newer.");
    }
    // (sk, skb), and the result since Linux 6.16.
    skeleton.rodata->retransmit_has_result = kernel->tracepoint_arguments("tcp_retransmit_skb") > 2;
    skeleton.rodata->netns_inode = static_cast<std::uint32_t>(interface.netns.id.inode);
    skeleton.rodata->netns_cookie = interface.netns_cookie;
    // The function by which the kernel declares the iterator.
    if (!kernel->has_function("bpf_iter_tcp")) {
        spdlog::warn(
            "{}: the kernel cannot list TCP sockets for BPF programs: round-trip times are those of "
            "connections that end",
            interface.name);
        bpf_program__set_autoload(skeleton.progs.tcp_sample, false);
    }
    bpf_map__set_max_entries(skeleton.maps.tcp_counts, max_peers + 1);
    return peers.share(skeleton.maps.peer_addresses, skeleton.maps.peer_endpoints);
}

std::vector<SlotTcpCounts> read_counts(int map) {
    std::vector<SlotTcpCounts> result;
    for (const auto& [slot, counts] : read_hash<std::uint32_t, tcp_counts>(map))
        result.push_back({slot, counts});
    return result;
}

UniqueFd open_counts(const PinFolder& pins) {
    return open_pinned_map(pins, "tcp_counts", sizeof(std::uint32_t), sizeof(tcp_counts));
}

}  // namespace

TcpProgram::TcpProgram(TcpProgram&&) noexcept = default;
TcpProgram& TcpProgram::operator=(TcpProgram&&) noexcept = default;
TcpProgram::~TcpProgram() = default;

Result<TcpProgram> TcpProgram::load(const WireGuardInterface& interface, const PeerLookup& peers,
                                    std::uint32_t max_peers, const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    TcpProgram program;
    program.interface_ = interface;
    program.skeleton_.reset(tcp_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the TCP BPF object");
    tcp_bpf& skeleton = *program.skeleton_;
    if (auto configured = configure(skeleton, interface, peers, max_peers); !configured)
        return std::unexpected(configured.error());
    auto takeover = load_taking_over(skeleton, pins, "the TCP BPF programs");
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    return program;
}

Result<TcpProgram> TcpProgram::attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                      std::uint32_t max_peers) {
    auto program = load(interface, peers, max_peers, std::nullopt);
    if (program)
        if (auto started = program->start(); !started)
            return std::unexpected(started.error());
    return program;
}

Result<void> TcpProgram::start() {
    bpf_program* const sample = skeleton_->progs.tcp_sample;
    if (bpf_program__autoload(sample)) {
        sample_link_.reset(bpf_program__attach_iter(sample, nullptr));
        if (!sample_link_)
            return bpf_failure(errno, "cannot attach the BPF program that lists TCP sockets");
    }
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    return takeover_.open();
}

Result<void> TcpProgram::sample() {
    if (!sample_link_)
        return {};
    const int link = bpf_link__fd(sample_link_.get());
    return run_in_network_namespace(interface_.netns, [&]() -> Result<void> {
        return run_iterator(link, "the TCP sockets of " + interface_.name);
    });
}

std::vector<SlotTcpCounts> TcpProgram::read() const {
    return read_counts(bpf_map__fd(skeleton_->maps.tcp_counts));
}

std::optional<tcp_counts> TcpProgram::read(std::uint32_t slot) const {
    tcp_counts counts{};
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tcp_counts), &slot, &counts) != 0)
        return {};
    return counts;
}

void TcpProgram::forget(std::uint32_t slot) {
    bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.tcp_counts), &slot);
}

std::uint64_t TcpProgram::lost() const {
    return read_per_cpu_sum(bpf_map__fd(skeleton_->maps.tcp_losses), 0);
}

std::size_t TcpProgram::attachments() const {
    return takeover_.attachments() + (sample_link_ ? 1 : 0);
}

LastTcpCounts read_last_tcp_counts(const PinFolder& pins) {
    LastTcpCounts last;
    if (const UniqueFd counts = open_counts(pins); counts)
        last.counts = read_counts(counts.get());
    if (const UniqueFd losses =
            open_pinned_map(pins, "tcp_losses", sizeof(std::uint32_t), sizeof(std::uint64_t));
        losses)
        last.lost = read_per_cpu_sum(losses.get(), 0);
    return last;
}

void forget_tcp_slots(const PinFolder& pins, const std::function<bool(std::uint32_t)>& known) {
    const UniqueFd counts = open_counts(pins);
    if (!counts)
        return;
    for (const SlotTcpCounts& each : read_counts(counts.get())) {
        if (!known(each.slot))
            bpf_map_delete_elem(counts.get(), &each.slot);
    }
}

}  // namespace pangolin
