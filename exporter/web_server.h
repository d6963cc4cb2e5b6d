// The HTTP endpoint: metrics, status page and health.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exporter/application/application_series.h"
#include "exporter/http_session.h"
#include "exporter/listen_address.h"
#include "exporter/prometheus_bridge.h"
#include "loader/base/error.h"

namespace pangolin {

struct WebServerOptions {
    std::vector<ListenAddress> listen{{.host = "0.0.0.0", .port = default_port}};
    std::string telemetry_path = "/metrics";
    HttpLimits limits{};
    // Beyond these a client gets a 503.
    unsigned max_connections = 512;
    unsigned max_scrapes = 16;
    std::chrono::milliseconds collection_patience{30'000};
    // As --web.config.file; empty: anybody may ask, in the clear.
    std::string config_file = {};
};

struct WebHandlers {
    // Runs on a thread of the server's own, one call at a time.
    SnapshotProvider snapshot;
    // What applications have to say; runs after `snapshot` on the same thread. Null: nothing ever.
    std::function<std::shared_ptr<const ApplicationSnapshot>()> application = nullptr;
    // Why the exporter is not ready, a line each; none: it is. Runs on the web thread, so it must not block.
    std::function<std::vector<std::string>()> problems = [] { return std::vector<std::string>{}; };
};

// Serves from start() until stop(), on two threads of its own with all signals blocked: one for the network,
// one for collections.
class WebServer {
  public:
    // Fails with the errno as the error's code: EADDRINUSE for a port that somebody has; or because the web
    // configuration is wrong.
    static Result<std::unique_ptr<WebServer>> start(const WebServerOptions& options, WebHandlers handlers);
    WebServer(const WebServer&) = delete;
    WebServer& operator=(const WebServer&) = delete;
    ~WebServer();

    // What it listens on, with the ports that were chosen.
    const std::vector<ListenAddress>& addresses() const;
    // Whether it speaks TLS.
    bool secure() const;

    // Cuts off all clients; waits for a collection that is running.
    void stop();

  private:
    class Implementation;
    explicit WebServer(std::unique_ptr<Implementation> implementation);
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace pangolin
