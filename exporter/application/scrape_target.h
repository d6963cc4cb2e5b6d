// One of metrics.application.scrape.
#pragma once

#include <chrono>
#include <string>

#include "exporter/application/application_series.h"

namespace pangolin {

struct ScrapeTarget {
    std::string name;
    // As HttpEndpoint::parse() takes it; without a path it is /metrics.
    std::string url;
    // As NetworkNamespaceFinder takes it, for one namespace; empty: the exporter's own.
    std::string netns;
    std::chrono::milliseconds interval = std::chrono::seconds(15);
    // Put on every series, in place of a label of the same name: what keeps the go_* of two programs apart.
    Labels labels;
};

}  // namespace pangolin
