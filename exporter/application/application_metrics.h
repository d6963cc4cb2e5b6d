// The registry of what applications measure: who may publish what, and what is published now.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "exporter/application/application_series.h"
#include "exporter/application/pushed_series.h"
#include "exporter/application/rejection.h"
#include "exporter/catalogue.h"

namespace pangolin {

struct ApplicationLimits {
    // Of all applications together (metrics.limits.max_series), and of one family.
    std::size_t series = 200'000;
    std::size_t series_per_family = 50'000;
    // That are not in the catalogue.
    std::size_t families = 2'000;
    std::size_t labels = 32;
    std::size_t name_bytes = 256;
    std::size_t value_bytes = 1'024;
    // Names and values of one series.
    std::size_t label_bytes = 4'096;
    std::size_t help_bytes = 1'024;
    // Buckets or quantiles of one series.
    std::size_t buckets = 256;
    // Held in memory for one series, on average over `series`.
    std::size_t bytes_per_series = 768;
};

struct ApplicationOptions {
    ApplicationLimits limits;
    // Families of the catalogue that applications own although the exporter measures them.
    std::vector<std::string> prefer;
    // A pushed series is published for this long after its last point.
    std::chrono::milliseconds max_age = std::chrono::minutes(5);
};

// Sources of series:
// - replace(): a source that is read as a whole (scrape:NAME). What is not in the last reading is gone.
// - push(): a source that tells changes (otlp). Its series age out.
// - a Provider: series of this process, read when they are published (MetricsService).
// - set_own(): the exporter's own families that are told here for want of a better place.
//
// A family of the catalogue that the exporter measures on this host, as observe() learns, takes no samples of
// applications; one that it does not measure takes those of the catalogue's type with none but the
// catalogue's labels (one that lacks is empty). Every other family is published under its own name, with the
// type that came first. Thread-safe.
class ApplicationMetrics {
  public:
    using Clock = std::chrono::steady_clock;

    class Provider {
      public:
        Provider() = default;
        Provider(const Provider&) = delete;
        Provider& operator=(const Provider&) = delete;
        virtual ~Provider() = default;
        // Called under the registry's lock: must not call the registry. Only families of the catalogue that
        // admits() let pass; labels in the catalogue's order.
        virtual void provide(std::vector<PublishedFamily>& families) const = 0;
    };

    explicit ApplicationMetrics(ApplicationOptions options = {});
    ApplicationMetrics(const ApplicationMetrics&) = delete;
    ApplicationMetrics& operator=(const ApplicationMetrics&) = delete;
    ~ApplicationMetrics() = default;

    // Publishes `families` in place of what `source` published before; empty when it is down. A family may
    // occur several times. Rejected samples are counted.
    ApplicationOutcome replace(std::string_view source, std::vector<ApplicationFamily> families);

    // One point of a push source; null when it was taken. A rejected one is counted.
    std::optional<Rejection> push(const ApplicationFamilyHeader& header, PushedPoint point,
                                  Clock::time_point now = Clock::now());

    // Samples that were rejected before they got here.
    void count_rejected(Rejection reason, std::uint64_t samples = 1);
    // Series that a Provider turned away. `family` is one of the catalogue.
    void count_limited(std::string_view family);

    // To be told of each collection before collect(): what it shows to be measured by the exporter is its own
    // from then on, also while the source is away. What applications had of it is dropped, and counted.
    void observe(const Snapshot& snapshot);

    // Null: applications may publish the family, which is one of catalogue(). Takes no lock.
    std::optional<Rejection> admits(const Metric& row) const;
    const ApplicationLimits& limits() const { return options_.limits; }

    // A sample of one of the exporter's own families, whose rows have no emit. `family` must be in the
    // catalogue; labels are complete and in its order.
    void set_own(std::string_view family, std::vector<std::string> label_values, double value);

    // As set_own(), one more.
    void count_own(std::string_view family, std::vector<std::string> label_values);

    // The provider must outlive its stay here.
    void add_provider(const Provider& provider);
    void remove_provider(const Provider& provider);

    // What is to be published now; forgets what is too old.
    std::shared_ptr<const ApplicationSnapshot> collect(Clock::time_point now = Clock::now());

  private:
    // Either pushed or of a replacing source.
    struct Series {
        std::shared_ptr<const Labels> labels;
        std::string source;
        // Of the reading that has it last.
        std::uint64_t reading = 0;
        ApplicationValue value;
        std::unique_ptr<PushedSeries> pushed;
        // What it is charged in memory, and the part of it that does not depend on values.
        std::size_t bytes = 0;
        std::size_t base = 0;
    };
    struct Family {
        ApplicationFamilyHeader header;
        // Null for a family of its own name.
        const Metric* row = nullptr;
        std::unordered_map<std::string, Series> series;
    };
    using Families = std::map<std::string, Family, std::less<>>;

    // All below are called with the lock held.
    std::expected<Family*, Rejection> family_of(const ApplicationFamilyHeader& header);
    std::expected<Labels, Rejection> labels_of(const Family& family, Labels labels) const;
    std::expected<Series*, Rejection> series_of(Family& family, Labels labels, std::string_view source,
                                                const ApplicationValue& value);
    std::optional<Rejection> place(const ApplicationFamilyHeader& header, ApplicationSample sample,
                                   std::string_view source, std::uint64_t reading);
    std::optional<Rejection> place_pushed(const ApplicationFamilyHeader& header, PushedPoint point,
                                          Clock::time_point now);
    // For a series of `streams` with such values; false: there is no room for its growth.
    bool charge(Series& series, std::size_t streams, const ApplicationValue& value);
    bool room_for_series(const Family& family, std::size_t bytes);
    template <class Predicate>
    void erase_series(Family& family, Predicate gone);
    void forget_dormant(Clock::time_point now, Clock::duration patience);
    void drop_if_empty(Families::iterator& family);
    void claim(const ApplicationFamilyHeader& header);
    void release(const ApplicationFamilyHeader& header);
    void limited(std::string_view family);
    void count(Rejection reason, std::uint64_t samples);
    void publish_own(std::vector<PublishedFamily>& families) const;

    ApplicationOptions options_;
    // By the row's place in the catalogue: the exporter measures it.
    std::vector<std::atomic<bool>> measured_;
    mutable std::mutex mutex_;
    Families families_;
    std::size_t foreign_families_ = 0;
    std::size_t series_ = 0;
    std::size_t bytes_ = 0;
    std::uint64_t readings_ = 0;
    // Names on sample and TYPE lines, with the family that has them.
    std::unordered_map<std::string, std::string> claimed_;
    std::vector<const Provider*> providers_;
    ApplicationOutcome outcome_;
    std::map<std::string, std::uint64_t, std::less<>> limited_;
    std::map<std::string, std::map<std::vector<std::string>, double>, std::less<>> own_;
    Clock::time_point last_purge_{};
};

}  // namespace pangolin
