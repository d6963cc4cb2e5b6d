// One client's connection to the web server.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/status.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>

#include "exporter/http_message.h"

namespace pangolin {

// What one client may cost. A client beyond a time limit is cut off.
struct HttpLimits {
    std::size_t header_bytes = std::size_t{16} * 1024;
    // From a request's first byte to its header's last.
    std::chrono::milliseconds header_time{10'000};
    // Between two requests. Longer than Prometheus' usual interval, so that it keeps its connection.
    std::chrono::milliseconds idle_time{130'000};
    // Without progress in writing a block of an answer, and for an answer as a whole.
    std::chrono::milliseconds stall_time{30'000};
    std::chrono::milliseconds answer_time{120'000};
};

// What a session needs of its server. Outlives it.
struct HttpService {
    HttpLimits limits;
    HttpHandler handler;
    // Called for each answer with the request's path (empty for a request that could not be read).
    std::function<void(std::string_view path, unsigned status)> answered;
};

// Serves requests until the client or a limit ends the connection.
boost::asio::awaitable<void> serve_http(boost::asio::ip::tcp::socket socket, const HttpService& service);

// Answers with an error that does not depend on the request, and closes.
boost::asio::awaitable<void> refuse_http(boost::asio::ip::tcp::socket socket, const HttpService& service,
                                         boost::beast::http::status status, std::string_view reason);

}  // namespace pangolin
