// Sums and differences of the kernel's counters.
#pragma once

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

// `now` and `before` are readings of the same element.
inline traffic_counts difference(traffic_counts now, const traffic_counts& before) {
    detail::for_each_count(now, before, [](auto& left, const auto& right) { left -= right; });
    return now;
}

}  // namespace pangolin
