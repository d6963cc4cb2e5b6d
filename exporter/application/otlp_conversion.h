// OTLP's metrics as Prometheus has them (OpenTelemetry specification, "Prometheus and OpenMetrics
// Compatibility").
#pragma once

#include "exporter/application/application_metrics.h"
#include "exporter/application/otlp_request.h"

namespace pangolin {

// Pushes all points of the request to the registry.
//
// A metric whose name, as it is or translated, is in the catalogue is published with its own attributes
// alone. Every other one has `job` and `instance` from the resource's service.* and the otel_scope_ labels;
// what else is known of its resource stands in target_info. Exemplars are left out; points without a value
// say nothing.
ApplicationOutcome import_otlp(const OtlpRequest& request, ApplicationMetrics& registry,
                               ApplicationMetrics::Clock::time_point now = ApplicationMetrics::Clock::now());

}  // namespace pangolin
