// What has been counted for each resource and backend, whatever becomes of their targets.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/shared/traffic.h"
#include "userspace/http_account.h"

namespace pangolin {

// Why a connection to a target failed or ended before its time.
enum class ConnectionError : std::uint8_t {
    connect_timeout,
    connect_refused,
    reset,
    early_close,
    unreachable
};
inline constexpr std::size_t connection_errors = 5;
using ConnectionErrors = std::array<std::uint64_t, connection_errors>;

struct ResourceLabels {
    std::string site_id;
    std::string resource_id;
};
struct TargetLabels {
    std::string site_id;
    std::string resource_id;
    std::string backend;
};
struct BackendLabels {
    std::string site_id;
    std::string backend;
};

// Of one resource at one site, over all its targets there, past and present. Totals only grow; the other
// values are of the poll that is going on or was last.
struct ResourceAccount {
    std::shared_ptr<const ResourceLabels> labels;
    // Some target of it was once where its packets are counted: a total of 0 is an observation.
    bool counted = false;
    // Inner IP packets and bytes to and from the targets behind tunnels. For those of local sites the bytes
    // are TCP payload, without packets.
    target_counts traffic{};
    // UDP flows of the last minute; none for a resource without UDP targets behind tunnels.
    std::optional<std::uint64_t> udp_flows;
    // Established now; none for a resource that is not raw TCP, and where sockets are not watched.
    std::optional<std::uint64_t> tcp_connections;
    // HTTP requests that wait for their answer, and WebSockets that are open; none until one was seen.
    std::optional<std::uint64_t> http_requests;
    std::optional<std::uint64_t> websockets;
};

// Of one resource at one backend. Totals only grow.
struct TargetAccount {
    std::shared_ptr<const TargetLabels> labels;
    ConnectionErrors errors{};
    HttpExchanges http;
};

// Of one backend, whichever resources have it as a target. Totals only grow.
struct BackendAccount {
    std::shared_ptr<const BackendLabels> labels;
    ConnectionErrors errors{};
    HttpResponseSizes response_sizes;
    // None while nothing is known: no check of Pangolin's, and no connection in the last minute.
    std::optional<bool> healthy;

    // Connections that were made or lost since the last call, and those in use.
    void observe(std::uint64_t good, std::uint64_t bad, std::uint64_t live,
                 std::chrono::steady_clock::time_point now);
    // What Pangolin's health check found; goes before what is observed. Of several the worst counts.
    void check(bool found_healthy) { checked_ = checked_.value_or(true) && found_healthy; }

  private:
    friend class ResourceLedger;
    void settle(std::chrono::steady_clock::time_point now);

    // Of this poll.
    std::optional<bool> checked_;
    std::uint64_t live_ = 0;
    // What the last connections showed, and when.
    std::optional<std::chrono::steady_clock::time_point> observed_;
    bool observed_healthy_ = false;
};

// Not thread-safe. References that it returns stay valid for the ledger's life.
class ResourceLedger {
  public:
    ResourceAccount& of(std::string_view site_id, std::string_view resource_id);
    TargetAccount& target(std::string_view site_id, std::string_view resource_id, std::string_view backend);
    BackendAccount& backend(std::string_view site_id, std::string_view backend);

    // A poll: what is not a total is forgotten, and known again at its end.
    void begin_poll();
    void end_poll(std::chrono::steady_clock::time_point now);

    // In the order of their labels.
    std::vector<ResourceAccount> resources() const;
    std::vector<TargetAccount> targets() const;
    std::vector<BackendAccount> backends() const;

    // Calls `visit(ResourceAccount&)`, `visit(TargetAccount&)` and `visit(BackendAccount&)`.
    template <class Visit>
    void for_each(Visit visit) {
        for (auto& [labels, account] : resources_)
            visit(account);
        for (auto& [labels, account] : targets_)
            visit(account);
        for (auto& [labels, account] : backends_)
            visit(account);
    }

  private:
    // Keys point into the accounts' labels.
    template <std::size_t labels, class Account>
    using Accounts = std::map<std::array<std::string_view, labels>, Account>;

    Accounts<2, ResourceAccount> resources_;
    Accounts<3, TargetAccount> targets_;
    Accounts<2, BackendAccount> backends_;
};

}  // namespace pangolin
