// Who may ask, how often, and whether in the clear: --web.config.file in force.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exporter/http_message.h"
#include "exporter/web_security/password_check.h"
#include "exporter/web_security/tls_context.h"
#include "exporter/web_security/web_config.h"
#include "loader/base/error.h"
#include "loader/files.h"

namespace pangolin {

// Looks at each connection and request whether the file, or one that it names, is another than before, and
// reads them again then: certificates are renewed and users change without a restart. What cannot be read
// changes nothing, and the log says so once. For one thread.
class WebGuard {
  public:
    // `reloaded` is called after each reading with its success. Fails when the file as it is now is wrong.
    static Result<std::unique_ptr<WebGuard>> open(
        std::string path, std::function<void(bool success)> reloaded = [](bool) {});

    // For a new connection; null: it is spoken in the clear.
    std::shared_ptr<TlsContext> tls();

    // Says why a request will not be served: 401 or 429. None: it will.
    boost::asio::awaitable<std::optional<HttpAnswer>> objection(const HttpRequest& request);

    // For every answer.
    const std::vector<std::pair<std::string, std::string>>& headers() const { return config_.headers; }

    // Before the end of the thread's io_context.
    void stop() { passwords_.stop(); }

  private:
    struct SeenFile {
        std::string path;
        // None where it was not there.
        std::optional<FileSignature> signature;
    };

    WebGuard(std::string path, std::function<void(bool)> reloaded);

    bool changed() const;
    void refresh();
    Result<void> load();
    void take(WebConfig config, std::shared_ptr<TlsContext> tls);
    bool within_rate();

    std::string path_;
    std::function<void(bool)> reloaded_;
    std::vector<SeenFile> seen_;
    bool loaded_ = false;
    WebConfig config_;
    std::shared_ptr<TlsContext> tls_;
    std::shared_ptr<const PasswordCheck::Users> users_;
    PasswordCheck passwords_;
    // A token bucket.
    double tokens_ = 0;
    std::chrono::steady_clock::time_point filled_;
};

}  // namespace pangolin
