// The bodies of OTLP over HTTP (OpenTelemetry protocol 1.5, "OTLP/HTTP"): binary protobuf and its JSON form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "opentelemetry/proto/collector/metrics/v1/metrics_service.pb.h"

#include "exporter/application/rejection.h"
#include "loader/base/error.h"

namespace pangolin {

using OtlpRequest = opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest;

enum class OtlpEncoding : std::uint8_t { protobuf, json };

// Messages in one request, whatever they are: an empty one takes two bytes on the wire and a hundred in
// memory, so that a body's length says nothing about what it costs.
inline constexpr std::size_t max_otlp_messages = 1'000'000;

// Fails for what is not of that form, and with the code E2BIG for too many messages.
Result<OtlpRequest> parse_otlp(std::string_view body, OtlpEncoding encoding,
                               std::size_t max_messages = max_otlp_messages);

// The answer to a request that was understood: a partial success where samples were rejected.
std::string otlp_response(const ApplicationOutcome& outcome, OtlpEncoding encoding);

// google.rpc.Status, the answer to one that was not. `code` is one of google.rpc.Code.
std::string otlp_status(int code, std::string_view message, OtlpEncoding encoding);

}  // namespace pangolin
