// Receives metrics by OTLP over HTTP: POST /v1/metrics from any OpenTelemetry SDK or collector.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "exporter/application/application_metrics.h"
#include "exporter/application/token_file.h"
#include "exporter/http_server.h"

namespace pangolin {

struct OtlpReceiverOptions {
    ListenAddress listen{"127.0.0.1", 4318};
    // Empty: everybody may push.
    std::string token_file;
    HttpLimits limits{.body_bytes = std::size_t{4} * 1024 * 1024, .idle_time = std::chrono::seconds(70)};
    // Of one body, unpacked.
    std::size_t unpacked_bytes = std::size_t{16} * 1024 * 1024;
    unsigned max_connections = 256;
};

// Serves on a thread of its own from start() until it is destroyed. The registry must outlive it.
class OtlpReceiver {
  public:
    // Fails for a token file that cannot be read, and as HttpServer::listen() does.
    static Result<std::unique_ptr<OtlpReceiver>> start(OtlpReceiverOptions options,
                                                       ApplicationMetrics& registry);
    OtlpReceiver(const OtlpReceiver&) = delete;
    OtlpReceiver& operator=(const OtlpReceiver&) = delete;
    ~OtlpReceiver() = default;

    const std::vector<ListenAddress>& addresses() const { return server_.addresses(); }

  private:
    OtlpReceiver(OtlpReceiverOptions options, ApplicationMetrics& registry);

    HttpService service();
    std::optional<HttpAnswer> objection(const HttpRequest& request);
    HttpAnswer receive(const HttpRequest& request);

    OtlpReceiverOptions options_;
    ApplicationMetrics& registry_;
    std::optional<TokenFile> token_;
    HttpServer server_;
};

}  // namespace pangolin
