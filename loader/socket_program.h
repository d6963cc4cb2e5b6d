// TCP connections that the reverse proxy makes to targets, by target.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bpf/shared/sockets.h"
#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "loader/bpf_handles.h"
#include "loader/network_namespace.h"
#include "loader/takeover.h"

struct sockets_bpf;

namespace pangolin {

// What the proxy dials.
struct SocketTarget {
    // An IPv4 address that an IPv6 socket dials in its mapped form is the same address.
    IpAddress address;
    std::uint16_t port = 0;
    // Inode of the namespace in which it is dialled; 0 for any of set_namespaces(). Where both exist the
    // namespace's own goes before.
    std::uint32_t netns = 0;
    // Under which it is counted. Never given to another target.
    std::uint32_t index = 0;
    // Whether the proxy speaks HTTP/1 to it.
    bool http = false;
};

struct TargetSocketCounts {
    std::uint32_t index = 0;
    socket_counts counts{};
};

// Connections in use, of counts that were added up since their first one.
constexpr std::uint64_t live_connections(const socket_counts& counts) {
    std::uint64_t live = counts.established + counts.found;
    for (const std::uint64_t ended : counts.ends)
        live -= ended;
    return live;
}

struct SocketLosses {
    // Events that found the map of counts full.
    std::uint64_t counts_full = 0;
    // Connections that found the map of sockets full. Sampling finds them when there is room.
    std::uint64_t sockets_full = 0;
    // Connections whose end was seen late, and not its cause.
    std::uint64_t ends_missed = 0;
    // Targets that found no room at the last set_targets().
    std::uint64_t targets_full = 0;
};

struct SocketProgramOptions {
    std::uint32_t max_targets = 65536;
    // Connections to targets at the same time. Memory is used as they are there.
    std::uint32_t max_sockets = 1U << 18;
    // Folder of the control group whose processes' connect() is watched; empty for the cgroup-v2 root.
    std::string cgroup;
    // None: nothing outlives the process.
    std::optional<KeptPins> pins = {};
};

// One for the whole host. Detaches at its end, but what is pinned. Not thread-safe.
class SocketProgram {
  public:
    // Loads the programs, for new maps or for those of another process, with their targets and namespaces.
    // See Takeover::prepare().
    static Result<SocketProgram> load(const SocketProgramOptions& options);
    // Attaches, in the place of the programs of before. Counts nothing until there are namespaces and
    // targets. Without cgroup v2 it works too, but connections for which the host has no route are not seen:
    // why is in connect_trouble().
    Result<void> start();
    // Both.
    static Result<SocketProgram> attach(const SocketProgramOptions& options = {});

    // What another process's programs have counted, or maps that were replaced; empty when it cannot be read.
    static std::vector<TargetSocketCounts> read_pinned(const PinFolder& pins);

    SocketProgram(SocketProgram&&) noexcept;
    SocketProgram& operator=(SocketProgram&&) noexcept;
    SocketProgram(const SocketProgram&) = delete;
    SocketProgram& operator=(const SocketProgram&) = delete;
    ~SocketProgram();

    // Makes the kernel look for exactly these; of equal address, port and namespace the last one counts. Each
    // target changes at once, not all of them together. Connections keep the index that they have. An error
    // is of the last target that could not be written, and the others are; those for which there is no room
    // are in lost().
    Result<void> set_targets(const std::vector<SocketTarget>& targets);
    // The namespaces in which the proxy dials. Connections in one that is left out are counted to their end.
    Result<void> set_namespaces(const std::vector<NetworkNamespace>& namespaces);

    // Adds what live connections carried and their round-trip times since the last call, and finds those that
    // existed before. Call it after set_targets() and set_namespaces(), and before read(). A namespace that
    // is gone is no error.
    Result<void> sample();

    // What was counted for each index since it was last taken. Reads in batches: there may be thousands.
    std::vector<TargetSocketCounts> read() const;
    // The same of one index, which is forgotten; none when nothing was counted. Connections that still are in
    // use go on to be counted under it, so that the sum of all that was taken and read stays right.
    std::optional<socket_counts> take(std::uint32_t index);

    SocketLosses lost() const;
    std::size_t attachments() const;
    // Why calls of connect() are not seen; none when they are.
    const std::optional<Error>& connect_trouble() const { return connect_trouble_; }
    // The map `sockets` (shared/sockets.h), for programs that look up a socket's target in it.
    int sockets_fd() const;
    // Elements of it now.
    std::size_t sockets() const;
    Takeover& takeover() { return takeover_; }
    const Takeover& takeover() const { return takeover_; }

  private:
    using Service = std::pair<IpAddress, std::uint16_t>;
    struct TargetKey {
        Service service;
        std::uint32_t netns = 0;
        auto operator<=>(const TargetKey&) const = default;
    };
    using TargetValue = std::pair<std::uint32_t, std::uint32_t>;  // index, flags

    SocketProgram() = default;
    void read_lists();
    Result<void> attach_to_cgroup();
    Result<void> set_services(const std::map<TargetKey, TargetValue>& targets);
    void count_unseen(std::uint32_t index);
    void forget_stale();

    std::string cgroup_;
    BpfSkeleton<sockets_bpf> skeleton_;
    Takeover takeover_;
    BpfLink sample_link_;
    std::optional<Error> connect_trouble_;
    // What the kernel's lists hold.
    std::map<TargetKey, TargetValue> targets_;
    std::set<Service> services_;
    std::set<std::uint32_t> listed_namespaces_;
    std::vector<NetworkNamespace> namespaces_;
    // Left out by set_namespaces(), but connections may still be there.
    std::vector<NetworkNamespace> left_;
    std::uint64_t targets_full_ = 0;
};

}  // namespace pangolin
