// Requests and answers as the handlers of the web server see them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/status.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/body.h"

namespace pangolin {

// One of the methods that the service allows; others do not reach a handler.
struct HttpRequest {
    // The target without query, and without scheme and authority where a client sent them.
    std::string path;
    bool head = false;
    std::string accept;
    std::string accept_encoding;
    std::string authorization;
    // Of the body, which only a service with room for one reads.
    std::string content_type;
    std::string content_encoding;
    // How long Prometheus will wait for the answer.
    std::optional<std::chrono::milliseconds> scrape_timeout = std::nullopt;
    std::string body;
};

struct HttpAnswer {
    boost::beast::http::status status = boost::beast::http::status::ok;
    std::string_view content_type = "text/plain; charset=utf-8";
    std::string text;
    // Streamed in place of `text` when there is one.
    std::unique_ptr<Body> body = nullptr;
    // Compress where the client allows it.
    bool compress = false;
    // Beyond those that every answer has.
    std::vector<std::pair<boost::beast::http::field, std::string>> headers = {};
    // Called when the last byte is written or the client is gone.
    std::shared_ptr<void> finished = nullptr;
};

using HttpHandler = std::function<boost::asio::awaitable<HttpAnswer>(const HttpRequest&)>;

}  // namespace pangolin
