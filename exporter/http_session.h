// One client's connection to the web server.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/status.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "exporter/client_list.h"
#include "exporter/http_message.h"

namespace pangolin {

class WebGuard;

// What one client may cost. A client beyond a time limit is cut off.
struct HttpLimits {
    std::size_t header_bytes = std::size_t{16} * 1024;
    // From a request's first byte to its header's last.
    std::chrono::milliseconds header_time{10'000};
    // Of a request's body; 0: it must have none.
    std::size_t body_bytes = 0;
    // From the header's end to the body's last byte.
    std::chrono::milliseconds body_time{20'000};
    // Of all bodies that are being read or answered.
    std::size_t all_bodies_bytes = std::size_t{64} * 1024 * 1024;
    // Between two requests. Longer than Prometheus' usual interval, so that it keeps its connection.
    std::chrono::milliseconds idle_time{130'000};
    // Without progress in writing a block of an answer, and for an answer as a whole.
    std::chrono::milliseconds stall_time{30'000};
    std::chrono::milliseconds answer_time{120'000};
};

// What a session needs of its server. Outlives it.
struct HttpService {
    HttpLimits limits;
    // As the header Allow lists them.
    std::string_view methods = "GET, HEAD";
    // Null, or says before a request's body is read why it will not be served.
    std::function<std::optional<HttpAnswer>(const HttpRequest& request)> objection = nullptr;
    // Null: anybody may ask, in the clear. Outlives the service's sessions.
    WebGuard* guard = nullptr;
    HttpHandler handler;
    // Called for each answer with the request's path (empty for a request that could not be read).
    std::function<void(std::string_view path, unsigned status)> answered;
    // Bytes of bodies in memory now. Only the thread that serves touches it.
    std::shared_ptr<std::size_t> bodies_bytes = std::make_shared<std::size_t>(0);
};

// Serves requests until the client, a limit or `clients`, who outlive it, end the connection.
boost::asio::awaitable<void> serve_http(boost::asio::ip::tcp::socket socket, const HttpService& service,
                                        ClientList& clients);

// Answers with an error that does not depend on the request and may be gone soon, and closes. A client that
// would have to be spoken to by TLS is not worth the handshake: it is closed without a word.
boost::asio::awaitable<void> refuse_http(boost::asio::ip::tcp::socket socket, const HttpService& service,
                                         boost::beast::http::status status, std::string_view reason);

}  // namespace pangolin
