// One small request to a server that is near.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// Where an HTTP server is: "http://HOST[:PORT][/PATH]".
struct HttpServer {
    std::string host;
    std::uint16_t port = 80;
    // Without a "/" at its end.
    std::string path;

    // Errors are about the text. https and user names are not supported.
    static Result<HttpServer> parse(std::string_view url);
    // "127.0.0.1:8080", as in the header Host.
    std::string authority() const;
};

struct HttpAnswer {
    unsigned status = 0;
    std::string body;
    // Of the header X-Next-Page; 0 when there is none.
    unsigned next_page = 0;
};

// GET of `target` ("/api/...") below the server's path, over a connection of its own. An answer that is not
// complete within `time_limit`, or has more than `size_limit` bytes, is an error; any status is not.
Result<HttpAnswer> http_get(const HttpServer& server, const std::string& target,
                            std::chrono::milliseconds time_limit, std::size_t size_limit);

}  // namespace pangolin
