// Families that applications alone measure, in the order of the catalogue's documentation. A row leaves this
// file when the exporter has a source of its own for it.
#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_background_queue_depth",
     .type = MetricType::gauge,
     .labels = {"job_type"},
     .help = "Background jobs that wait, by type.",
     .source = "A"},
});

}  // namespace

std::span<const Metric> application_rows() {
    return rows;
}

}  // namespace pangolin
