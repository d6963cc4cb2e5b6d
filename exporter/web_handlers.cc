#include "exporter/web_handlers.h"

#include <chrono>
#include <memory>
#include <utility>

#include "exporter/content_negotiation.h"
#include "exporter/exposition.h"
#include "exporter/status_page.h"

namespace pangolin {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr std::string_view status_path = "/";
constexpr std::string_view health_path = "/healthz";
constexpr std::string_view ready_path = "/readyz";

HttpAnswer unavailable(const std::string& reason) {
    return {.status = http::status::service_unavailable, .text = reason + "\n"};
}

// An answer that says what is the matter should still be in time.
std::chrono::milliseconds patience(const HttpRequest& request) {
    return request.scrape_timeout ? *request.scrape_timeout * 9 / 10 : std::chrono::milliseconds::max();
}

// Holds one of the places for answers with a snapshot: each has buffers, and keeps a snapshot in memory.
class Place {
  public:
    explicit Place(std::shared_ptr<unsigned> taken) : taken_(std::move(taken)) { ++*taken_; }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() { --*taken_; }

  private:
    std::shared_ptr<unsigned> taken_;
};

// A place that also measures how long a scrape had it.
class ScrapePlace {
  public:
    ScrapePlace(std::shared_ptr<unsigned> taken, SelfMetrics& self) : place_(std::move(taken)), self_(self) {}
    ScrapePlace(const ScrapePlace&) = delete;
    ScrapePlace& operator=(const ScrapePlace&) = delete;
    ~ScrapePlace() {
        const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
        self_.observe_scrape(time.count());
    }

  private:
    Place place_;
    SelfMetrics& self_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

WebRouter::WebRouter(asio::io_context& io, const WebServerOptions& options, WebHandlers handlers,
                     SelfMetrics& self)
    : telemetry_path_(options.telemetry_path),
      max_scrapes_(options.max_scrapes),
      handlers_(std::move(handlers)),
      self_(self),
      collection_(
          io, handlers_.snapshot, [&self] { return self.collect(); }, handlers_.application,
          options.collection_patience) {}

std::string_view WebRouter::handler_name(std::string_view path) const {
    if (path == telemetry_path_)
        return "metrics";
    if (path == status_path)
        return "status";
    if (path == health_path)
        return "healthz";
    if (path == ready_path)
        return "readyz";
    return "other";
}

asio::awaitable<HttpAnswer> WebRouter::answer(const HttpRequest& request) {
    if (request.path == telemetry_path_)
        co_return co_await metrics(request);
    if (request.path == status_path)
        co_return co_await status();
    if (request.path == health_path)
        co_return HttpAnswer{.text = "ok\n"};
    if (request.path == ready_path)
        co_return readiness();
    co_return HttpAnswer{.status = http::status::not_found,
                         .text = "Nothing here. See / for what there is.\n"};
}

asio::awaitable<HttpAnswer> WebRouter::metrics(const HttpRequest& request) {
    if (*scrapes_ >= max_scrapes_)
        co_return unavailable("Too many scrapes at a time.");
    HttpAnswer answer;
    answer.finished = std::make_shared<ScrapePlace>(scrapes_, self_);
    Result<Collected> collected = co_await collection_.collect(patience(request));
    if (!collected)
        co_return unavailable(collected.error().message());
    if (!collected->snapshot)
        co_return unavailable("Nothing has been collected yet.");
    const ExpositionFormat format = negotiate_format(request.accept);
    answer.content_type = content_type(format);
    answer.body = std::make_unique<Exposition>(std::move(collected->snapshot), std::move(collected->families),
                                               format, std::move(collected->application));
    answer.compress = true;
    co_return answer;
}

asio::awaitable<HttpAnswer> WebRouter::status() {
    if (*scrapes_ >= max_scrapes_)
        co_return unavailable("Too many requests at a time.");
    HttpAnswer answer;
    answer.finished = std::make_shared<Place>(scrapes_);
    Result<Collected> collected = co_await collection_.collect();
    StatusPage page{.snapshot = nullptr, .problems = handlers_.problems(), .telemetry_path = telemetry_path_};
    if (collected)
        page.snapshot = collected->snapshot.get();
    else
        page.problems.push_back(collected.error().message());
    answer.text = render(page);
    answer.content_type = "text/html; charset=utf-8";
    co_return answer;
}

HttpAnswer WebRouter::readiness() const {
    const std::vector<std::string> problems = handlers_.problems();
    if (problems.empty())
        return {.text = "ready\n"};
    HttpAnswer answer;
    answer.status = http::status::service_unavailable;
    for (const std::string& problem : problems)
        answer.text += problem + "\n";
    return answer;
}

}  // namespace pangolin
