// What the web server answers to each path.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <string>
#include <string_view>

#include "exporter/http_message.h"
#include "exporter/self_metrics.h"
#include "exporter/shared_collection.h"
#include "exporter/web_server.h"

namespace pangolin {

// All on the thread that runs `io`.
class WebRouter {
  public:
    WebRouter(boost::asio::io_context& io, const WebServerOptions& options, WebHandlers handlers,
              SelfMetrics& self);

    boost::asio::awaitable<HttpAnswer> answer(const HttpRequest& request);

    // The label `handler` for a path: one of a fixed list.
    std::string_view handler_name(std::string_view path) const;

    // Waits for a collection that is running.
    void stop() { collection_.stop(); }

  private:
    boost::asio::awaitable<HttpAnswer> metrics(const HttpRequest& request);
    boost::asio::awaitable<HttpAnswer> status();
    HttpAnswer readiness() const;

    std::string telemetry_path_;
    unsigned max_scrapes_;
    // Shared with answers that may end after this object.
    std::shared_ptr<unsigned> scrapes_ = std::make_shared<unsigned>(0);
    WebHandlers handlers_;
    SelfMetrics& self_;
    SharedCollection collection_;
};

}  // namespace pangolin
