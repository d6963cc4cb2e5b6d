// Names that Prometheus accepts, and how OpenTelemetry's become such (OpenTelemetry specification,
// "Prometheus and OpenMetrics Compatibility", section "OTLP Metric points to Prometheus").
#pragma once

#include <string>
#include <string_view>

#include "exporter/text_writer.h"

namespace pangolin {

// [a-zA-Z_:][a-zA-Z0-9_:]*
bool is_metric_name(std::string_view name);
// [a-zA-Z_][a-zA-Z0-9_]*, without the two underscores in front that Prometheus keeps for itself.
bool is_label_name(std::string_view name);

// "seconds" of "s", "bytes_per_second" of "By/s", "" of "1", "{requests}" and "". Unknown units stay, as far
// as a name can hold them.
std::string unit_suffix(std::string_view unit);

// "http_request_duration_seconds" of "http.request.duration" in "s": other characters are underscores, never
// two at a time; the unit is appended unless the name has it; "_total" ends a counter's name; "_ratio" that
// of a gauge with the unit "1".
std::string metric_name(std::string_view name, std::string_view unit, MetricType type);

// "http_method" of "http.method". Empty for what has no character that fits.
std::string label_name(std::string_view key);

}  // namespace pangolin
