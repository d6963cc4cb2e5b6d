// HTTP/1.1 read as RFC 9110 and RFC 9112 describe it, from whole streams: what the kernel's reader must come
// to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace pangolin::test {

struct HttpResult {
    std::map<std::pair<int, int>, std::uint64_t> requests;  // by enum http_method and status, 0 without one
    std::map<int, std::uint64_t> durations;                 // by enum http_method
    std::map<int, std::uint64_t> totals;                    // by enum http_loss; opaque kinds behind them
    std::uint64_t responses = 0;
    std::uint64_t response_bytes = 0;
    std::uint64_t aborted = 0;
    // What connections that are closed leave behind.
    std::int64_t open_requests = 0;
    std::int64_t open_websockets = 0;

    bool operator==(const HttpResult&) const = default;
};

std::string describe(const HttpResult& result);
inline void PrintTo(const HttpResult& result, std::ostream* out) {
    *out << describe(result);
}

// All requests pass before the first response; then both sides end their streams.
HttpResult read_http(std::string_view requests, std::string_view responses);

}  // namespace pangolin::test
