// Reads the metrics pages of other programs and publishes them through the registry.
#pragma once

#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

#include "exporter/application/application_metrics.h"
#include "exporter/application/scrape_target.h"

namespace pangolin {

struct ScraperOptions {
    // For one request.
    std::chrono::milliseconds time_limit = std::chrono::seconds(3);
    // Of a page, as it is sent and unpacked.
    std::size_t page_bytes = std::size_t{16} << 20;
    // What a page said last is published for this long after it could not be read any more.
    std::chrono::milliseconds max_age = std::chrono::minutes(1);
};

// Each target has a thread of its own from start to end, so that none waits for another and a scrape of this
// exporter for none of them. pangolin_exporter_source_up{source="scrape:NAME"} says whether the last reading
// succeeded.
class Scraper {
  public:
    // The registry must outlive it.
    Scraper(const std::vector<ScrapeTarget>& targets, ApplicationMetrics& registry,
            const ScraperOptions& options = {});
    Scraper(const Scraper&) = delete;
    Scraper& operator=(const Scraper&) = delete;
    ~Scraper();

  private:
    std::vector<std::jthread> threads_;
};

}  // namespace pangolin
