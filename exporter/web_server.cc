#include "exporter/web_server.h"

#include <exception>
#include <utility>

#include "exporter/http_server.h"
#include "exporter/self_metrics.h"
#include "exporter/signals_blocked.h"
#include "exporter/web_handlers.h"
#include "exporter/web_security/web_guard.h"

namespace pangolin {

class WebServer::Implementation {
  public:
    Implementation(const WebServerOptions& options, WebHandlers handlers)
        : server_({.max_connections = options.max_connections,
                   .port_hint =
                       "Stop that program, or choose another port with metrics.port or --web.listen-address; "
                       "applications with an OpenTelemetry SDK open 9464 by default as well."},
                  service(options),
                  {.connections = [this](unsigned count) { self_.set_connections(count); },
                   .rejected = [this] { self_.count_rejected_connection(); }}),
          router_(server_.io(), options, std::move(handlers), self_) {}
    Implementation(const Implementation&) = delete;
    Implementation& operator=(const Implementation&) = delete;
    ~Implementation() { stop(); }

    HttpServer& server() { return server_; }

    // Before the server listens.
    Result<void> guard(const std::string& config_file) {
        if (config_file.empty())
            return {};
        auto guard = WebGuard::open(config_file, [this](bool success) { self_.set_web_config(success); });
        if (!guard)
            return std::unexpected(guard.error());
        guard_ = std::move(*guard);
        // For the caller's thread: the guard is the server's from then on, and does not change its mind.
        secure_ = guard_->tls() != nullptr;
        server_.set_guard(guard_.get());
        return {};
    }
    bool secure() const { return secure_; }

    void stop() {
        server_.stop();
        router_.stop();
        if (guard_)
            guard_->stop();
    }

  private:
    HttpService service(const WebServerOptions& options) {
        HttpService service;
        service.limits = options.limits;
        service.handler = [this](const HttpRequest& request) { return router_.answer(request); };
        service.answered = [this](std::string_view path, unsigned status) {
            self_.count_response(router_.handler_name(path), status);
        };
        return service;
    }

    // The server's coroutines refer to the first two.
    SelfMetrics self_;
    std::unique_ptr<WebGuard> guard_;
    bool secure_ = false;
    HttpServer server_;
    WebRouter router_;
};

Result<std::unique_ptr<WebServer>> WebServer::start(const WebServerOptions& options, WebHandlers handlers) {
    try {
        const SignalsBlocked signals_blocked;
        auto implementation = std::make_unique<Implementation>(options, std::move(handlers));
        if (Result<void> guarded = implementation->guard(options.config_file); !guarded)
            return std::unexpected(guarded.error());
        if (Result<void> listening = implementation->server().listen(options.listen); !listening)
            return std::unexpected(listening.error());
        implementation->server().run();
        return std::unique_ptr<WebServer>(new WebServer(std::move(implementation)));
    } catch (const std::exception& error) {
        return failure(std::string("cannot start the web server: ") + error.what());
    }
}

WebServer::WebServer(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}

WebServer::~WebServer() = default;

const std::vector<ListenAddress>& WebServer::addresses() const {
    return implementation_->server().addresses();
}

bool WebServer::secure() const {
    return implementation_->secure();
}

void WebServer::stop() {
    implementation_->stop();
}

}  // namespace pangolin
