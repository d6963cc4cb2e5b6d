#include "userspace/control_plane/durations.h"

#include <algorithm>
#include <numeric>

namespace pangolin {

void Durations::observe(std::chrono::nanoseconds duration) {
    const double seconds = std::chrono::duration<double>(duration).count();
    const auto bound = std::ranges::lower_bound(bounds, seconds);
    ++buckets_.at(static_cast<std::size_t>(bound - bounds.begin()));
    sum_ += duration;
}

std::uint64_t Durations::count() const {
    return std::accumulate(buckets_.begin(), buckets_.end(), std::uint64_t{0});
}

}  // namespace pangolin
