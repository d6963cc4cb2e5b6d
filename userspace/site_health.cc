#include "userspace/site_health.h"

#include <algorithm>

namespace pangolin {

void SiteHealth::add_drops(traffic_direction direction, std::string_view reason, std::uint64_t packets) {
    const auto same = std::ranges::find_if(packet_drops, [&](const PacketDrops& drops) {
        return drops.direction == direction && drops.reason == reason;
    });
    if (same != packet_drops.end())
        same->packets += packets;
    else
        packet_drops.push_back({direction, std::string(reason), packets});
}

}  // namespace pangolin
