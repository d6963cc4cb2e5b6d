// HTTP/1.1 on this host's TCP sockets: exchanges with targets by target, and with Pangolin's own services one
// by one.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf/shared/http.h"
#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/takeover.h"

struct http_bpf;
struct ring_buffer;

namespace pangolin {

struct HttpProgramOptions {
    // The map `sockets` of a SocketProgram, which says what target a socket is connected to. The map is
    // shared, the program may end before this one. Without it no connection to a target is looked into.
    int sockets_fd = -1;
    // Folders of control groups whose sockets are looked at; empty for the cgroup-v2 root: all of them.
    std::vector<std::string> cgroups;
    std::uint32_t max_targets = 65536;
    // Connections that are looked into at the same time, of targets and of services. Memory is used as they
    // are there: about 4 KiB each.
    std::uint32_t max_connections = 65536;
    // Bytes of events that may wait; a power of two.
    std::uint32_t event_bytes = 1U << 20;
    // None: nothing outlives the process.
    std::optional<KeptPins> pins = {};
};

// A server's port in a network namespace.
struct HttpServerPort {
    std::uint32_t netns = 0;  // inode
    std::uint16_t port = 0;
    auto operator<=>(const HttpServerPort&) const = default;
};

// A host whose requests to a target's address count for another target, one that shares the address.
struct HttpHost {
    std::uint32_t target = 0;  // the address's index, as its sockets have it
    std::string name;          // in any case, without a port
    std::uint32_t owner = 0;   // the index to count for
    auto operator<=>(const HttpHost&) const = default;
};

struct HttpRequests {
    http_status_key key{};
    std::uint64_t requests = 0;
};

struct HttpDurations {
    http_duration_key key{};
    latency_histogram histogram{};
};

struct HttpTargetCounts {
    std::uint32_t target = 0;
    http_target_counts counts{};
};

// All counts of targets.
struct HttpCounts {
    std::vector<HttpRequests> requests;
    std::vector<HttpDurations> durations;
    std::vector<HttpTargetCounts> targets;
};

struct HttpTotals {
    std::uint64_t lost[HTTP_LOSSES]{};
    std::uint64_t opaque[HTTP_OPAQUE_KINDS]{};
};

// Receives the events of services (struct http_exchange, http_frame or http_closed, by `type`). The event is
// valid during the call.
using HttpEventHandler = std::function<void(const http_event& event)>;

// One for the whole host. Detaches at its end, but what is pinned. Not thread-safe, but consume() may be
// called by one thread while another reads counts.
class HttpProgram {
  public:
    // Whether this kernel takes the programs: loads them by way of trial and attaches nothing. Takes as long
    // as the verifier does, about a second.
    static Result<void> probe();
    // Loads the programs, for new maps or for those of another process, with what it was looking for and the
    // events that wait. See Takeover::prepare().
    static Result<HttpProgram> load(const HttpProgramOptions& options, HttpEventHandler handler = {});
    // Attaches, in the place of the programs of before.
    Result<void> start();
    // Both.
    static Result<HttpProgram> attach(const HttpProgramOptions& options, HttpEventHandler handler = {});

    // What another process's programs have counted, or maps that were replaced; empty when it cannot be read.
    static HttpCounts read_pinned(const PinFolder& pins);

    HttpProgram(HttpProgram&&) noexcept;
    HttpProgram& operator=(HttpProgram&&) noexcept;
    ~HttpProgram();

    // The ports of HTTP targets. Packets of other ports are passed on at once: a port has to be here before
    // its connections are made, or they are counted from their next request on.
    void set_target_ports(const std::vector<std::uint16_t>& ports);
    // Whose requests are told apart by the host that they name (X-Forwarded-Host, else Host). All others
    // count for the target of their connection: names that are not here take no room.
    Result<void> set_hosts(const std::vector<HttpHost>& hosts);
    // The services whose exchanges are events.
    Result<void> set_services(const std::vector<HttpServerPort>& services);

    // What was counted in these maps. Reads in batches.
    HttpCounts read() const;
    HttpTotals totals() const;
    // A target that is no more; its index must never be used again.
    void forget(const std::vector<std::uint32_t>& targets);

    // Hands out the events that wait. Returns how many there were.
    Result<std::size_t> consume();
    // Consumes, and overwrites all of the ring: what was handed out is in no memory any more. Events go on to
    // be taken meanwhile.
    Result<std::size_t> erase_consumed();
    // Readable while events wait, for poll(2).
    int events_fd() const;

    // Of programs, to hooks and control groups.
    std::size_t attachments() const { return takeover_.attachments(); }
    Takeover& takeover() { return takeover_; }
    const Takeover& takeover() const { return takeover_; }
    // Connections that are being looked into.
    std::size_t connections() const;
    // For tests and benchmarks.
    int program_fd(bool ingress) const;

  private:
    struct RingDeleter {
        void operator()(ring_buffer* ring) const;
    };
    HttpProgram() = default;
    Result<void> read_events();
    void draw_hash_key();
    void read_lists();

    std::vector<std::string> cgroups_;
    // In this order: the ring and the links are of the skeleton.
    BpfSkeleton<http_bpf> skeleton_;
    Takeover takeover_;
    std::unique_ptr<HttpEventHandler> handler_;
    std::unique_ptr<ring_buffer, RingDeleter> ring_;
    std::vector<HttpServerPort> services_;
    std::vector<http_host_key> hosts_;
};

}  // namespace pangolin
