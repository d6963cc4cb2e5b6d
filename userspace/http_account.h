// HTTP exchanges as they are added up for a resource's target.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <utility>

#include "bpf/shared/http.h"
#include "userspace/latency.h"

namespace pangolin {

// Of one resource at one backend. Totals only grow.
struct HttpExchanges {
    // By enum http_method and status.
    std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint64_t> requests;
    // By enum http_method; without upgrades and event streams.
    std::map<std::uint16_t, Latency> durations;

    // Answered by 500 to 599.
    std::uint64_t server_errors() const {
        std::uint64_t sum = 0;
        for (const auto& [key, count] : requests)
            sum += key.second >= 500 && key.second < 600 ? count : 0;
        return sum;
    }
};

// Responses of one backend by size (http_size_bounds), not cumulated.
struct HttpResponseSizes {
    std::array<std::uint64_t, HTTP_SIZE_BUCKETS> bucket{};
    std::uint64_t sum = 0;
};

}  // namespace pangolin
