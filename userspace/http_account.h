// HTTP exchanges as they are added up for a resource's target.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "bpf/shared/http.h"
#include "userspace/latency.h"

namespace pangolin {

// As published, in the order of enum http_method.
inline constexpr std::array<std::string_view, HTTP_METHODS> http_method_names{
    "other", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

// Of one resource at one backend. Totals only grow.
struct HttpExchanges {
    // By enum http_method and status.
    std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint64_t> requests;

    // What a backend answers is its own choice: beyond this many methods and statuses a request counts for
    // HTTP_METHOD_OTHER and the hundreds of its status, 1 to 9.
    static constexpr std::size_t most_answers = 128;
    void add_requests(std::uint16_t method, std::uint16_t status, std::uint64_t count) {
        std::pair<std::uint16_t, std::uint16_t> answer{method, status};
        if (requests.size() >= most_answers && !requests.contains(answer))
            answer = {static_cast<std::uint16_t>(HTTP_METHOD_OTHER),
                      static_cast<std::uint16_t>(status / 100)};
        requests[answer] += count;
    }
    // Requests whose connection ended before their answer did.
    std::uint64_t aborted = 0;
    // By enum http_method; without upgrades and event streams.
    std::map<std::uint16_t, Latency> durations;

    // Answered by 500 to 599.
    std::uint64_t server_errors() const {
        std::uint64_t sum = 0;
        for (const auto& [key, count] : requests)
            sum += key.second / 100 == 5 || key.second == 5 ? count : 0;
        return sum;
    }
};

// Responses of one backend by size (http_size_bounds), not cumulated.
struct HttpResponseSizes {
    std::array<std::uint64_t, HTTP_SIZE_BUCKETS> bucket{};
    std::uint64_t sum = 0;

    void observe(std::uint64_t size) {
        std::size_t index = 0;
        while (index < HTTP_SIZE_BOUNDS && size > http_size_bounds[index])
            ++index;
        ++bucket[index];
        sum += size;
    }
};

}  // namespace pangolin
