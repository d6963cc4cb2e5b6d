// One small request to a server that is near.
#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// Where an HTTP server is: "http://HOST[:PORT][/PATH]".
struct HttpEndpoint {
    std::string host;
    std::uint16_t port = 80;
    // Without a "/" at its end.
    std::string path;

    // Errors are about the text. https and user names are not supported.
    static Result<HttpEndpoint> parse(std::string_view url);
    // "127.0.0.1:8080", as in the header Host.
    std::string authority() const;
};

struct HttpGetOptions {
    // The headers of these names; empty: not sent.
    std::string accept = "application/json";
    std::string accept_encoding{};
    // An answer that is not complete by then, or longer, is an error.
    std::chrono::milliseconds time_limit = std::chrono::seconds(2);
    std::size_t size_limit = std::size_t{16} << 20;
    // Asked for an end it gives up at once.
    std::stop_token stop = {};
};

struct HttpResponse {
    unsigned status = 0;
    // As it was sent: `content_encoding` says how it is packed.
    std::string body;
    std::string content_type;
    std::string content_encoding;
    // Of the header X-Next-Page; 0 when there is none.
    unsigned next_page = 0;
};

// GET of `target` ("/api/...") below the endpoint's path, over a connection of its own. Any status is an
// answer.
Result<HttpResponse> http_get(const HttpEndpoint& endpoint, const std::string& target,
                              const HttpGetOptions& options);

}  // namespace pangolin
