// A page of metrics, as another program serves it, into families.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "exporter/application/application_series.h"
#include "exporter/application/rejection.h"
#include "exporter/text_writer.h"
#include "loader/base/error.h"

namespace pangolin {

struct ExpositionLimits {
    std::size_t line_bytes = std::size_t{64} * 1024;
    // Sample lines.
    std::size_t samples = 200'000;
};

struct ParsedExposition {
    // In the page's order.
    std::vector<ApplicationFamily> families;
    // Samples that are well-formed and have no form here: a histogram without its sum, a bucket that shrinks.
    ApplicationOutcome outcome;
};

// Text format 0.0.4 or OpenMetrics 1.0. A malformed line fails the whole page, as it does in Prometheus; the
// error names the line.
//
// - A counter whose sample lines do not end with _total (0.0.4 allows it) keeps its name and has the type
// unknown.
// - A state set is a gauge. Of an OpenMetrics family only the samples that belong to its type are looked at;
//   _created is left out, and histograms of gauges are unsupported.
// - Timestamps and exemplars are checked and left out.
Result<ParsedExposition> parse_exposition(std::string_view page, ExpositionFormat format,
                                          const ExpositionLimits& limits = {});

}  // namespace pangolin
