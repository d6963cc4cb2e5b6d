// What has been counted for each resource and backend, whatever becomes of their targets.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/shared/traffic.h"
#include "userspace/account_table.h"
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

inline std::array<std::string_view, 2> labels_of(const ResourceAccount& account) {
    return {account.labels->site_id, account.labels->resource_id};
}
inline std::array<std::string_view, 3> labels_of(const TargetAccount& account) {
    return {account.labels->site_id, account.labels->resource_id, account.labels->backend};
}
inline std::array<std::string_view, 2> labels_of(const BackendAccount& account) {
    return {account.labels->site_id, account.labels->backend};
}

// Not thread-safe.
class ResourceLedger {
  public:
    std::shared_ptr<ResourceAccount> of(std::string_view site_id, std::string_view resource_id);
    std::shared_ptr<TargetAccount> target(std::string_view site_id, std::string_view resource_id,
                                          std::string_view backend);
    std::shared_ptr<BackendAccount> backend(std::string_view site_id, std::string_view backend);

    // A poll: what is not a total is forgotten, and known again at its end.
    void begin_poll();
    void end_poll(std::chrono::steady_clock::time_point now);

    // In the order of their labels.
    std::vector<ResourceAccount> resources() const;
    std::vector<TargetAccount> targets() const;
    std::vector<BackendAccount> backends() const;

    // Calls `visit(ResourceAccount&)`, `visit(TargetAccount&)` and `visit(BackendAccount&)`.
    template <class Visit>
    void for_each(Visit visit) const {
        resources_.for_each(visit);
        targets_.for_each(visit);
        backends_.for_each(visit);
    }
    // See AccountTable.
    void forget_unused(const AccountReview& review, auto is_live_resource, auto is_live_target,
                       auto is_live_backend) {
        resources_.forget_unused(review, is_live_resource);
        targets_.forget_unused(review, is_live_target);
        backends_.forget_unused(review, is_live_backend);
    }

  private:
    AccountTable<2, ResourceAccount> resources_;
    AccountTable<3, TargetAccount> targets_;
    AccountTable<2, BackendAccount> backends_;
};

}  // namespace pangolin
