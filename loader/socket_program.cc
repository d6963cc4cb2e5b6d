#include "loader/socket_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/bpf_iterator.h"
#include "loader/bpf_map.h"
#include "loader/cgroup.h"
#include "loader/kernel_btf.h"
#include "loader/pinned_maps.h"
#include "sockets.skel.h"

namespace pangolin {
namespace {

// Namespaces in which a proxy dials at the same time: one for each container that makes or uses a tunnel.
constexpr std::uint32_t max_namespaces = 1024;
// Samplings between two looks for connections that are gone unseen.
constexpr std::uint32_t samplings_per_look = 16;
// A connection that as many samplings did not see is gone.
constexpr std::uint32_t samplings_to_be_seen = 3;

socket_service service_of(const std::pair<IpAddress, std::uint16_t>& service) {
    socket_service result{.address = {}, .port = service.second};
    for (unsigned byte = 0; byte < 8; ++byte) {
        result.address[byte] = static_cast<std::uint8_t>(service.first.high >> (56 - 8 * byte));
        result.address[8 + byte] = static_cast<std::uint8_t>(service.first.low >> (56 - 8 * byte));
    }
    return result;
}

std::uint32_t inode_of(const NetworkNamespace& netns) {
    return static_cast<std::uint32_t>(netns.id.inode);
}

// Mapped addresses are those of IPv4, for the sockets that dial them are.
IpAddress dialled_address(IpAddress address) {
    if (address.high == 0 && address.low >> 32 == 0xffff)
        address.family = IpFamily::v4;
    return address;
}

std::pair<IpAddress, std::uint16_t> service_in(const socket_service& key) {
    return {dialled_address(IpAddress::from_network(IpFamily::v6, key.address)),
            static_cast<std::uint16_t>(key.port)};
}

Result<void> configure(sockets_bpf& skeleton, const SocketProgramOptions& options) {
    const auto kernel = KernelBtf::load();
    if (!kernel)
        return std::unexpected(kernel.error());
    for (const char* const tracepoint : {"inet_sock_set_state", "tcp_receive_reset", "tcp_destroy_sock"}) {
        if (kernel->tracepoint_arguments(tracepoint) == 0)
            return failure(std::string("the kernel has no tracepoint ") + tracepoint,
                           "Connections to targets need CONFIG_INET and Linux 5.10 or newer.");
    }
    // The helper of tracing programs, from commit c5dbb89fc2ac (Linux 5.12).
    skeleton.rodata->can_make_cookies = kernel->has_function("bpf_get_socket_ptr_cookie");
    // The function by which the kernel declares the iterator.
    if (!kernel->has_function("bpf_iter_tcp")) {
        spdlog::warn(
            "the kernel cannot list TCP sockets for BPF programs: what connections to targets carry is known "
            "when they end");
        bpf_program__set_autoload(skeleton.progs.socket_sample, false);
    }
    const std::uint32_t targets = std::max(options.max_targets, 1U);
    bpf_map__set_max_entries(skeleton.maps.socket_namespaces, max_namespaces);
    bpf_map__set_max_entries(skeleton.maps.socket_targets, targets);
    bpf_map__set_max_entries(skeleton.maps.socket_services, targets);
    bpf_map__set_max_entries(skeleton.maps.socket_counts, targets);
    bpf_map__set_max_entries(skeleton.maps.unseen_ends, targets);
    bpf_map__set_max_entries(skeleton.maps.sockets, std::max(options.max_sockets, 1U));
    return {};
}

}  // namespace

SocketProgram::SocketProgram(SocketProgram&&) noexcept = default;
SocketProgram& SocketProgram::operator=(SocketProgram&&) noexcept = default;
SocketProgram::~SocketProgram() = default;

Result<SocketProgram> SocketProgram::load(const SocketProgramOptions& options) {
    collect_libbpf_messages();
    SocketProgram program;
    program.cgroup_ = options.cgroup;
    program.skeleton_.reset(sockets_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the socket BPF object");
    sockets_bpf& skeleton = *program.skeleton_;
    if (auto configured = configure(skeleton, options); !configured)
        return std::unexpected(configured.error());
    auto takeover = load_taking_over(skeleton, options.pins, "the socket BPF programs");
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    program.read_lists();
    return program;
}

Result<SocketProgram> SocketProgram::attach(const SocketProgramOptions& options) {
    auto program = load(options);
    if (program)
        if (auto started = program->start(); !started)
            return std::unexpected(started.error());
    return program;
}

Result<void> SocketProgram::start() {
    bpf_program* const sample = skeleton_->progs.socket_sample;
    if (bpf_program__autoload(sample)) {
        sample_link_.reset(bpf_program__attach_iter(sample, nullptr));
        if (!sample_link_)
            return bpf_failure(errno, "cannot attach the BPF program that lists TCP sockets");
    }
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    if (auto opened = takeover_.open(); !opened)
        return opened;
    if (auto attached = attach_to_cgroup(); !attached)
        connect_trouble_ = attached.error();
    return {};
}

Result<void> SocketProgram::attach_to_cgroup() {
    const Result<std::string> folder = cgroup_.empty() ? find_cgroup_root() : Result<std::string>(cgroup_);
    if (!folder)
        return std::unexpected(folder.error());
    return takeover_.attach_to_cgroups({skeleton_->progs.socket_connect4, skeleton_->progs.socket_connect6},
                                       {*folder});
}

// As another process left them.
void SocketProgram::read_lists() {
    if (!takeover_.resumes())
        return;
    for (const auto& [key, value] :
         read_hash<socket_target_key, socket_target>(bpf_map__fd(skeleton_->maps.socket_targets)))
        targets_[{service_in(key.service), key.netns}] = {value.index, value.flags};
    for (const auto& [key, present] :
         read_hash<socket_service, std::uint32_t>(bpf_map__fd(skeleton_->maps.socket_services)))
        services_.insert(service_in(key));
    for (const auto& [netns, present] :
         read_hash<std::uint32_t, std::uint32_t>(bpf_map__fd(skeleton_->maps.socket_namespaces)))
        listed_namespaces_.insert(netns);
}

Result<void> SocketProgram::set_services(const std::map<TargetKey, TargetValue>& targets) {
    std::set<Service> wanted;
    for (const auto& [key, value] : targets)
        wanted.insert(key.service);
    const int map = bpf_map__fd(skeleton_->maps.socket_services);
    for (auto old = services_.begin(); old != services_.end();) {
        const socket_service key = service_of(*old);
        if (wanted.contains(*old) || (bpf_map_delete_elem(map, &key) != 0 && errno != ENOENT))
            ++old;
        else
            old = services_.erase(old);
    }
    constexpr std::uint32_t present = 1;
    Result<void> result;
    for (const Service& service : wanted) {
        if (services_.contains(service))
            continue;
        const socket_service key = service_of(service);
        if (bpf_map_update_elem(map, &key, &present, BPF_ANY) == 0)
            services_.insert(service);
        else if (errno != E2BIG)
            result = bpf_failure(errno, "cannot add to the kernel's list of services");
    }
    return result;
}

Result<void> SocketProgram::set_targets(const std::vector<SocketTarget>& targets) {
    std::map<TargetKey, TargetValue> wanted;
    for (const SocketTarget& target : targets)
        wanted[{{dialled_address(target.address), target.port}, target.netns}] = {
            target.index, target.http ? std::uint32_t{SOCKET_HTTP} : 0U};
    Result<void> result = set_services(wanted);
    const int map = bpf_map__fd(skeleton_->maps.socket_targets);
    const auto kernel_key = [](const TargetKey& key) {
        return socket_target_key{.service = service_of(key.service), .netns = key.netns};
    };
    for (auto old = targets_.begin(); old != targets_.end();) {
        const socket_target_key key = kernel_key(old->first);
        if (wanted.contains(old->first) || (bpf_map_delete_elem(map, &key) != 0 && errno != ENOENT))
            ++old;
        else
            old = targets_.erase(old);
    }
    targets_full_ = 0;
    for (const auto& [name, value] : wanted) {
        const auto old = targets_.find(name);
        if (old != targets_.end() && old->second == value)
            continue;
        const socket_target_key key = kernel_key(name);
        const socket_target target{.index = value.first, .flags = value.second};
        if (bpf_map_update_elem(map, &key, &target, BPF_ANY) == 0)
            targets_[name] = value;
        else if (errno == E2BIG)
            ++targets_full_;
        else
            result = bpf_failure(errno, "cannot add to the kernel's list of targets");
    }
    return result;
}

Result<void> SocketProgram::set_namespaces(const std::vector<NetworkNamespace>& namespaces) {
    const int map = bpf_map__fd(skeleton_->maps.socket_namespaces);
    const auto has = [](const std::vector<NetworkNamespace>& in, const NetworkNamespaceId& id) {
        return std::ranges::find(in, id, &NetworkNamespace::id) != in.end();
    };
    for (const NetworkNamespace& old : namespaces_) {
        if (!has(namespaces, old.id))
            left_.push_back(old);
    }
    std::erase_if(listed_namespaces_, [&](std::uint32_t netns) {
        const bool stays = std::ranges::any_of(
            namespaces, [&](const NetworkNamespace& each) { return inode_of(each) == netns; });
        return !stays && bpf_map_delete_elem(map, &netns) == 0;
    });
    std::erase_if(left_, [&](const NetworkNamespace& old) { return has(namespaces, old.id); });
    constexpr std::uint32_t present = 1;
    Result<void> result;
    for (const NetworkNamespace& netns : namespaces) {
        const std::uint32_t key = inode_of(netns);
        if (bpf_map_update_elem(map, &key, &present, BPF_ANY) == 0)
            listed_namespaces_.insert(key);
        else
            result = bpf_failure(errno, "cannot count the connections of network namespace " + netns.name);
    }
    namespaces_ = namespaces;
    return result;
}

Result<void> SocketProgram::sample() {
    std::vector<NetworkNamespace> namespaces = namespaces_;
    namespaces.insert(namespaces.end(), left_.begin(), left_.end());
    // Before the first set_namespaces() there may be connections all the same, which another process saw.
    if (!sample_link_ || namespaces.empty())
        return {};
    const int link = bpf_link__fd(sample_link_.get());
    const std::uint32_t number = ++skeleton_->bss->sampling;
    Result<void> result;
    const auto visited = visit_network_namespaces(namespaces, [&](const NetworkNamespace& netns) {
        // One that cannot be read does not keep the others from it.
        if (auto sampled = run_iterator(link, "the TCP sockets of " + netns.name); !sampled)
            result = sampled;
        return Result<void>();
    });
    if (!visited)
        result = visited;
    if (result && number % samplings_per_look == 0)
        forget_stale();
    return result;
}

void SocketProgram::count_unseen(std::uint32_t index) {
    const int map = bpf_map__fd(skeleton_->maps.unseen_ends);
    std::uint64_t ends = 0;
    bpf_map_lookup_elem(map, &index, &ends);
    ++ends;
    bpf_map_update_elem(map, &index, &ends, BPF_ANY);
}

void SocketProgram::forget_stale() {
    const int map = sockets_fd();
    const std::uint32_t now = skeleton_->bss->sampling;
    std::set<std::uint32_t> in_use;
    for (const auto& [key, record] : read_hash<std::uint64_t, socket_record>(map)) {
        if (now - record.sampling < samplings_to_be_seen) {
            in_use.insert(record.netns);
        } else if (bpf_map_delete_elem(map, &key) == 0 && (record.flags & SOCKET_ESTABLISHED) != 0) {
            count_unseen(record.target);
        }
    }
    std::erase_if(left_, [&](const NetworkNamespace& netns) {
        return !in_use.contains(static_cast<std::uint32_t>(netns.id.inode));
    });
}

namespace {

std::vector<TargetSocketCounts> read_counts(int counts_fd, int unseen_fd) {
    const auto unseen = read_hash<std::uint32_t, std::uint64_t>(unseen_fd);
    std::vector<TargetSocketCounts> result;
    for (const auto& [index, counts] : read_hash<std::uint32_t, socket_counts>(counts_fd)) {
        result.push_back({index, counts});
        for (const auto& [of, ends] : unseen)
            result.back().counts.ends[SOCKET_END_UNSEEN] += of == index ? ends : 0;
    }
    return result;
}

}  // namespace

std::vector<TargetSocketCounts> SocketProgram::read() const {
    return read_counts(bpf_map__fd(skeleton_->maps.socket_counts), bpf_map__fd(skeleton_->maps.unseen_ends));
}

std::vector<TargetSocketCounts> SocketProgram::read_pinned(const PinFolder& pins) {
    const UniqueFd counts =
        open_pinned_map(pins, "socket_counts", sizeof(std::uint32_t), sizeof(socket_counts));
    const UniqueFd unseen =
        open_pinned_map(pins, "unseen_ends", sizeof(std::uint32_t), sizeof(std::uint64_t));
    return counts && unseen ? read_counts(counts.get(), unseen.get()) : std::vector<TargetSocketCounts>{};
}

std::optional<socket_counts> SocketProgram::take(std::uint32_t index) {
    auto counts = take_element<socket_counts>(bpf_map__fd(skeleton_->maps.socket_counts), index);
    const auto unseen = take_element<std::uint64_t>(bpf_map__fd(skeleton_->maps.unseen_ends), index);
    if (!unseen)
        return counts;
    if (!counts)
        counts.emplace();
    counts->ends[SOCKET_END_UNSEEN] += *unseen;
    return counts;
}

SocketLosses SocketProgram::lost() const {
    const int map = bpf_map__fd(skeleton_->maps.socket_losses);
    return {.counts_full = read_per_cpu_sum(map, SOCKET_LOSS_COUNTS_FULL),
            .sockets_full = read_per_cpu_sum(map, SOCKET_LOSS_SOCKETS_FULL),
            .ends_missed = read_per_cpu_sum(map, SOCKET_LOSS_END_MISSED),
            .targets_full = targets_full_};
}

std::size_t SocketProgram::attachments() const {
    return takeover_.attachments() + (sample_link_ ? 1 : 0);
}

int SocketProgram::sockets_fd() const {
    return bpf_map__fd(skeleton_->maps.sockets);
}

std::size_t SocketProgram::sockets() const {
    return read_hash<std::uint64_t, socket_record>(sockets_fd()).size();
}

}  // namespace pangolin
