#include "exporter/application/scraper.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "exporter/application/exposition_parser.h"
#include "exporter/application/gunzip.h"
#include "exporter/signals_blocked.h"
#include "loader/network_namespace.h"
#include "userspace/metadata/http_get.h"
#include "userspace/metadata/text.h"
#include "userspace/source_state.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

// The names in the older format are those that programs document; OpenMetrics renames counters.
constexpr const char* accepted =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

ExpositionFormat format_of(std::string_view content_type) {
    return content_type.starts_with("application/openmetrics-text") ? ExpositionFormat::open_metrics
                                                                    : ExpositionFormat::text;
}

// The readings of one target, all on one thread.
class TargetReader {
  public:
    TargetReader(ScrapeTarget target, ApplicationMetrics& registry, const ScraperOptions& options,
                 std::stop_token stop)
        : target_(std::move(target)),
          source_("scrape:" + target_.name),
          endpoint_(HttpEndpoint::parse(target_.url)),
          registry_(registry),
          options_(options),
          stop_(std::move(stop)),
          state_(source_) {
        if (!target_.netns.empty())
            finder_.emplace(target_.netns);
    }
    TargetReader(const TargetReader&) = delete;
    TargetReader& operator=(const TargetReader&) = delete;
    ~TargetReader() = default;

    void read() {
        auto response = fetch();
        if (!response)
            return failed(response.error());
        auto parsed = parse(std::move(*response));
        if (!parsed) {
            parsed.error().what = fmt::format("{}: {}", target_.url, parsed.error().what);
            return failed(parsed.error());
        }
        for (std::size_t reason = 0; reason < rejections; ++reason)
            if (const std::uint64_t samples = parsed->outcome.by_reason[reason]; samples > 0)
                registry_.count_rejected(static_cast<Rejection>(reason), samples);
        label(parsed->families);
        registry_.replace(source_, std::move(parsed->families));
        succeeded_ = Clock::now();
        state_.succeeded();
        publish_state();
    }

  private:
    // In the target's namespace.
    Result<HttpResponse> fetch() {
        if (!finder_)
            return get();
        const auto namespaces = finder_->find();
        if (!namespaces)
            return std::unexpected(namespaces.error());
        if (namespaces->empty())
            return failure(in_quotes(target_.netns) + " is no network namespace");
        std::optional<HttpResponse> response;
        const auto visited = run_in_network_namespace(namespaces->front(), [&]() -> Result<void> {
            auto answer = get();
            if (!answer)
                return std::unexpected(std::move(answer.error()));
            response = std::move(*answer);
            return {};
        });
        if (!visited)
            return std::unexpected(visited.error());
        return std::move(*response);
    }

    Result<HttpResponse> get() const {
        if (!endpoint_)
            return std::unexpected(endpoint_.error());
        return http_get(*endpoint_, endpoint_->path.empty() ? "/metrics" : "",
                        {.accept = accepted,
                         .accept_encoding = "gzip",
                         .time_limit = options_.time_limit,
                         .size_limit = options_.page_bytes,
                         .stop = stop_});
    }

    Result<ParsedExposition> parse(HttpResponse response) const {
        if (response.status != 200)
            return failure(fmt::format("answers {}", response.status), "Is this the address of its metrics?");
        if (response.content_encoding == "gzip") {
            auto page = gunzip(response.body, options_.page_bytes);
            if (!page)
                return std::unexpected(page.error());
            response.body = std::move(*page);
        } else if (!response.content_encoding.empty() && response.content_encoding != "identity") {
            return failure(in_quotes(response.content_encoding) + " was not asked for");
        }
        return parse_exposition(response.body, format_of(response.content_type));
    }

    void label(std::vector<ApplicationFamily>& families) const {
        if (target_.labels.empty())
            return;
        for (ApplicationFamily& family : families)
            for (ApplicationSample& sample : family.samples) {
                std::erase_if(sample.labels, [&](const Label& label) {
                    return std::ranges::find(target_.labels, label.name, &Label::name) !=
                           target_.labels.end();
                });
                sample.labels.insert(sample.labels.end(), target_.labels.begin(), target_.labels.end());
            }
    }

    void failed(const Error& error) {
        // That we end is no failure of the other side.
        if (stop_.stop_requested())
            return;
        state_.failed(error);
        publish_state();
        if (succeeded_ && Clock::now() - *succeeded_ > options_.max_age) {
            registry_.replace(source_, {});
            succeeded_.reset();
        }
    }

    void publish_state() const {
        registry_.set_own("pangolin_exporter_source_up", {source_}, state_.up() ? 1 : 0);
    }

    ScrapeTarget target_;
    std::string source_;
    Result<HttpEndpoint> endpoint_;
    std::optional<NetworkNamespaceFinder> finder_;
    ApplicationMetrics& registry_;
    ScraperOptions options_;
    std::stop_token stop_;
    SourceState state_;
    // The last time, while what was read then is published.
    std::optional<Clock::time_point> succeeded_;
};

}  // namespace

Scraper::Scraper(const std::vector<ScrapeTarget>& targets, ApplicationMetrics& registry,
                 const ScraperOptions& options) {
    const SignalsBlocked blocked;
    for (const ScrapeTarget& target : targets)
        threads_.emplace_back([target, options, &registry](const std::stop_token& stop) {
            TargetReader reader(target, registry, options, stop);
            std::mutex mutex;
            std::condition_variable_any ended;
            std::unique_lock lock(mutex);
            while (!stop.stop_requested()) {
                const auto next = Clock::now() + target.interval;
                try {
                    reader.read();
                } catch (const std::exception& exception) {
                    spdlog::error("scrape {}: unexpected: {}", target.name, exception.what());
                }
                ended.wait_until(lock, stop, next, [] { return false; });
            }
        });
}

Scraper::~Scraper() {
    // All at once, not each after the one before has ended.
    for (std::jthread& thread : threads_)
        thread.request_stop();
}

}  // namespace pangolin
