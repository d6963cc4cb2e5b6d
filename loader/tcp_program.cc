#include "loader/tcp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "loader/bpf_error.h"
#include "loader/bpf_iterator.h"
#include "loader/bpf_map.h"
#include "loader/kernel_btf.h"
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
    // The function by which the kernel declares the iterator.
    if (!kernel->has_function("bpf_iter_tcp")) {
        spdlog::warn(
            "{}: the kernel cannot list TCP sockets for BPF programs: round-trip times are those of "
            "connections that end",
            interface.name);
        bpf_program__set_autoload(skeleton.progs.tcp_sample, false);
    }
    bpf_map__set_max_entries(skeleton.maps.tcp_counts, max_peers + 1);
    for (const auto& [map, fd] : {std::pair{skeleton.maps.peer_addresses, peers.addresses_fd()},
                                  std::pair{skeleton.maps.peer_endpoints, peers.endpoints_fd()}}) {
        if (const int error = bpf_map__reuse_fd(map, fd); error != 0)
            return bpf_failure(-error, "cannot share the peers with the TCP programs");
    }
    return {};
}

std::array<bpf_link*, 4> links(const tcp_bpf& skeleton) {
    return {skeleton.links.tcp_state, skeleton.links.tcp_retransmit, skeleton.links.tcp_retransmit_synack,
            skeleton.links.tcp_sample};
}

}  // namespace

void TcpProgram::SkeletonDeleter::operator()(tcp_bpf* skeleton) const {
    tcp_bpf__destroy(skeleton);
}

TcpProgram::TcpProgram(TcpProgram&&) noexcept = default;
TcpProgram& TcpProgram::operator=(TcpProgram&&) noexcept = default;
TcpProgram::~TcpProgram() = default;

Result<TcpProgram> TcpProgram::attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                      std::uint32_t max_peers) {
    collect_libbpf_messages();
    TcpProgram program;
    program.interface_ = interface;
    program.skeleton_.reset(tcp_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the TCP BPF object");
    if (auto configured = configure(*program.skeleton_, interface, peers, max_peers); !configured)
        return std::unexpected(configured.error());
    if (const int error = tcp_bpf__load(program.skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot load the TCP BPF programs");
    if (const int error = tcp_bpf__attach(program.skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot attach the TCP BPF programs");
    return program;
}

Result<void> TcpProgram::sample() {
    if (skeleton_->links.tcp_sample == nullptr)
        return {};
    const int link = bpf_link__fd(skeleton_->links.tcp_sample);
    return run_in_network_namespace(interface_.netns, [&]() -> Result<void> {
        return run_iterator(link, "the TCP sockets of " + interface_.name);
    });
}

std::vector<SlotTcpCounts> TcpProgram::read() const {
    std::vector<SlotTcpCounts> result;
    for (const auto& [slot, counts] :
         read_hash<std::uint32_t, tcp_counts>(bpf_map__fd(skeleton_->maps.tcp_counts)))
        result.push_back({slot, counts});
    return result;
}

std::optional<tcp_counts> TcpProgram::take(std::uint32_t slot) {
    return take_element<tcp_counts>(bpf_map__fd(skeleton_->maps.tcp_counts), slot);
}

std::uint64_t TcpProgram::lost() const {
    return read_per_cpu_sum(bpf_map__fd(skeleton_->maps.tcp_losses), 0);
}

std::size_t TcpProgram::attachments() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(links(*skeleton_), [](const bpf_link* link) { return link != nullptr; }));
}

}  // namespace pangolin
