#include "exporter/web_security/web_guard.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/status.hpp>
#include <utility>

namespace pangolin {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

bool asks_for_nothing(const WebConfig& config) {
    return !config.tls.enabled() && config.users.empty();
}

}  // namespace

WebGuard::WebGuard(std::string path, std::function<void(bool)> reloaded)
    : path_(std::move(path)), reloaded_(std::move(reloaded)) {}

Result<std::unique_ptr<WebGuard>> WebGuard::open(std::string path, std::function<void(bool)> reloaded) {
    std::unique_ptr<WebGuard> guard(new WebGuard(std::move(path), std::move(reloaded)));
    if (const Result<void> loaded = guard->load(); !loaded)
        return std::unexpected(loaded.error());
    return guard;
}

bool WebGuard::changed() const {
    return std::ranges::any_of(
        seen_, [](const SeenFile& file) { return file.signature != FileSignature::of(file.path); });
}

void WebGuard::refresh() {
    if (!changed())
        return;
    if (const Result<void> loaded = load())
        spdlog::info("web configuration read again from {}", path_);
    else
        spdlog::error("the web configuration stays as it was: {}", loaded.error().message());
}

Result<void> WebGuard::load() {
    // Before reading: what changes meanwhile is seen the next time.
    std::vector<SeenFile> seen{{path_, FileSignature::of(path_)}};
    auto config = read_web_config(path_);
    Result<std::shared_ptr<TlsContext>> tls = nullptr;
    if (config) {
        for (const PemSource* const pem :
             {&config->tls.certificate, &config->tls.key, &config->tls.client_ca})
            if (!pem->file.empty())
                seen.push_back({pem->file, FileSignature::of(pem->file)});
        if (config->tls.enabled())
            tls = TlsContext::load(config->tls);
    }
    seen_ = std::move(seen);
    Result<void> result;
    if (!config)
        result = std::unexpected(config.error());
    else if (!tls)
        result = std::unexpected(tls.error());
    else if (loaded_ && config_.tls.enabled() != config->tls.enabled())
        result = failure(path_ + ": TLS is switched on or off by a restart only",
                         "Restart the exporter if this is meant.");
    else if (loaded_ && !asks_for_nothing(config_) && asks_for_nothing(*config))
        result = failure(path_ + ": nobody is asked for anything any more, as in a file half written",
                         "Restart the exporter if this is meant.");
    else
        take(std::move(*config), std::move(*tls));
    reloaded_(result.has_value());
    return result;
}

void WebGuard::take(WebConfig config, std::shared_ptr<TlsContext> tls) {
    config_ = std::move(config);
    tls_ = std::move(tls);
    users_ = std::make_shared<const PasswordCheck::Users>(config_.users);
    tokens_ = config_.rate_burst;
    filled_ = std::chrono::steady_clock::now();
    loaded_ = true;
}

std::shared_ptr<TlsContext> WebGuard::tls() {
    refresh();
    return tls_;
}

bool WebGuard::within_rate() {
    if (config_.rate_interval.count() == 0)
        return true;
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> passed = now - filled_;
    const std::chrono::duration<double> interval = config_.rate_interval;
    filled_ = now;
    tokens_ = std::min<double>(config_.rate_burst, tokens_ + passed / interval);
    if (tokens_ < 1)
        return false;
    tokens_ -= 1;
    return true;
}

asio::awaitable<std::optional<HttpAnswer>> WebGuard::objection(const HttpRequest& request) {
    refresh();
    if (!within_rate())
        co_return HttpAnswer{.status = http::status::too_many_requests,
                             .text = "Too many requests.\n",
                             .headers = {{http::field::retry_after, "1"}}};
    if (users_->empty())
        co_return std::nullopt;
    PasswordVerdict verdict = PasswordVerdict::wrong;
    if (auto credentials = parse_basic_authorization(request.authorization))
        verdict = co_await passwords_.check(users_, std::move(*credentials));
    if (verdict == PasswordVerdict::right)
        co_return std::nullopt;
    if (verdict == PasswordVerdict::busy)
        co_return HttpAnswer{.status = http::status::too_many_requests,
                             .text = "Too many passwords at a time.\n",
                             .headers = {{http::field::retry_after, "1"}}};
    co_return HttpAnswer{
        .status = http::status::unauthorized,
        .text = "Unauthorized.\n",
        .headers = {{http::field::www_authenticate, "Basic realm=\"pangolin_exporter\", charset=\"UTF-8\""}}};
}

}  // namespace pangolin
