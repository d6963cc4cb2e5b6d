#include "exporter/catalogue/rows.h"

#include <algorithm>

namespace pangolin {

// Seconds, as Prometheus wants them.
const std::array<double, LATENCY_BOUNDS> latency_bounds = [] {
    std::array<double, LATENCY_BOUNDS> bounds{};
    std::ranges::transform(latency_bounds_us, bounds.begin(), [](__u32 bound) { return bound / 1e6; });
    return bounds;
}();

const SiteHealth& health_of(const SiteSnapshot& site) {
    static const SiteHealth nothing;
    return site.health ? *site.health : nothing;
}

void emit_by_protocol(std::string_view id, const traffic_counts& traffic, Samples& samples,
                      __u64 traffic_count::* what) {
    const auto& count = traffic.count;
    for (std::size_t protocol = 0; protocol < TRAFFIC_PROTOCOLS; ++protocol) {
        if (count[TRAFFIC_INGRESS][protocol].*what == 0 && count[TRAFFIC_EGRESS][protocol].*what == 0)
            continue;
        for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
            samples.add({id, direction_names[direction], protocol_names[protocol]},
                        std::uint64_t{count[direction][protocol].*what});
    }
}

void emit_tunnel_up(const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
    if (site.tunnel_up)
        samples.add({site.site_id(), "wireguard"}, zero_or_one(*site.tunnel_up));
}

// Nothing is published of a site that never had an observation: at thousands of sites that would be most of
// the answer.
void emit_latency(const SiteSnapshot& site, Samples& samples, const Latency& latency) {
    if (!latency.empty())
        samples.add_histogram({site.site_id(), "wireguard"}, latency_bounds, latency.histogram().bucket,
                              static_cast<double>(latency.histogram().sum_us) / 1e6);
}

}  // namespace pangolin
