// Sums and differences of the kernel's counters.
#pragma once

#include <cstdint>

#include "bpf/shared/traffic.h"

namespace pangolin {

namespace detail {
template <class Operation>
void for_each_count(traffic_counts& left, const traffic_counts& right, Operation operation) {
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        for (int protocol = 0; protocol < TRAFFIC_PROTOCOLS; ++protocol) {
            traffic_count& to = left.count[direction][protocol];
            const traffic_count& from = right.count[direction][protocol];
            operation(to.packets, from.packets);
            operation(to.bytes, from.bytes);
        }
    }
}
}  // namespace detail

inline void add(traffic_counts& sum, const traffic_counts& part) {
    detail::for_each_count(sum, part, [](auto& left, const auto& right) { left += right; });
}

inline void add(target_counts& sum, const target_counts& part) {
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        sum.count[direction].packets += part.count[direction].packets;
        sum.count[direction].bytes += part.count[direction].bytes;
    }
}

inline target_counts difference(target_counts now, const target_counts& before) {
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        now.count[direction].packets -= before.count[direction].packets;
        now.count[direction].bytes -= before.count[direction].bytes;
    }
    return now;
}

// Whether some count of `now` is below that of `before`: the element was deleted and made anew between them.
inline bool began_anew(const traffic_counts& now, const traffic_counts& before) {
    bool anew = false;
    traffic_counts left = now;
    detail::for_each_count(left, before, [&](const auto& count, const auto& was) { anew |= count < was; });
    return anew;
}

// Of both directions.
inline std::uint64_t packets(const target_counts& counts) {
    return counts.count[TRAFFIC_INGRESS].packets + counts.count[TRAFFIC_EGRESS].packets;
}

// `now` and `before` are readings of the same element.
inline traffic_counts difference(traffic_counts now, const traffic_counts& before) {
    detail::for_each_count(now, before, [](auto& left, const auto& right) { left -= right; });
    return now;
}

}  // namespace pangolin
