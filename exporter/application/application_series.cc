#include "exporter/application/application_series.h"

#include <algorithm>
#include <numeric>

namespace pangolin {

std::uint64_t HistogramValue::count() const {
    return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0});
}

const PublishedFamily* ApplicationSnapshot::find(std::string_view name) const {
    const auto found = std::ranges::lower_bound(families, name, {}, [](const PublishedFamily& family) {
        return std::string_view(family.header.name);
    });
    return found != families.end() && found->header.name == name ? &*found : nullptr;
}

bool ApplicationSnapshot::prefers(std::string_view name) const {
    return std::ranges::binary_search(preferred, name, std::ranges::less{},
                                      [](const auto& text) { return std::string_view(text); });
}

}  // namespace pangolin
