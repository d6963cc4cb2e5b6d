// What the parts of the catalogue share: label values and ways to read a snapshot that several rows have.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "bpf/shared/latency.h"
#include "exporter/catalogue.h"

namespace pangolin {

inline constexpr std::array<std::string_view, TRAFFIC_DIRECTIONS> direction_names{"ingress", "egress"};
inline constexpr std::array<std::string_view, TRAFFIC_PROTOCOLS> protocol_names{"tcp", "udp", "icmp",
                                                                                "other"};

constexpr std::uint64_t zero_or_one(bool value) {
    return value ? 1 : 0;
}

// Of a site of which nothing is known: one where all is 0.
const SiteHealth& health_of(const SiteSnapshot& site);

// A protocol is published once a packet of it was seen, in both directions then: most have one or two, and at
// thousands of sites the zeros of the others would be most of the answer.
void emit_by_protocol(std::string_view id, const traffic_counts& traffic, Samples& samples,
                      __u64 traffic_count::* what);

void emit_tunnel_up(const SiteSnapshot& site, const SnapshotView& view, Samples& samples);

// Of the buckets of bpf/shared/latency.h, in seconds.
extern const std::array<double, LATENCY_BOUNDS> latency_bounds;

// Nothing when there was no observation.
void emit_latency(const SiteSnapshot& site, Samples& samples, const Latency& latency);

// For Metric::has_source: sessions are read of Pangolin's database; or there is a Pangolin whose requests
// are.
bool has_accounts(const Snapshot& snapshot);
bool has_accounts_or_requests(const Snapshot& snapshot);

// What Pangolin's database says of sessions, by the labels of pangolin_token_*_total. False where no database
// is read: what is seen of requests counts then.
bool emit_issued_sessions(const SnapshotView& view, Samples& samples);
bool emit_ended_sessions(const SnapshotView& view, Samples& samples);
bool emit_prolonged_sessions(const SnapshotView& view, Samples& samples);

// The parts, in the order of publication.
std::span<const Metric> site_rows();
std::span<const Metric> resource_rows();
std::span<const Metric> http_rows();
std::span<const Metric> tunnel_rows();
std::span<const Metric> control_rows();
std::span<const Metric> peer_rows();
std::span<const Metric> account_rows();
std::span<const Metric> certificate_rows();
std::span<const Metric> host_rows();
std::span<const Metric> application_rows();
std::span<const Metric> exporter_rows();

}  // namespace pangolin
