#include "exporter/application/otlp_request.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver_util.h>
#include <google/protobuf/wire_format_lite.h>

#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

namespace pangolin {

namespace {

namespace protobuf = google::protobuf;
using OtlpResponse = opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceResponse;
using WireFormat = protobuf::internal::WireFormatLite;

// As deep as protobuf itself follows.
constexpr int max_depth = 100;
constexpr std::string_view json_type_prefix = "type.googleapis.com/";

// Counts what would become an object, without making it.
class MessageCounter {
  public:
    explicit MessageCounter(std::size_t limit) : limit_(limit) {}

    // False when the limit is passed; what is malformed is left to the parser.
    bool count(protobuf::io::CodedInputStream& in, const protobuf::Descriptor& type, int depth = 0) {
        while (const std::uint32_t tag = in.ReadTag()) {
            const protobuf::FieldDescriptor* const field =
                type.FindFieldByNumber(WireFormat::GetTagFieldNumber(tag));
            const bool message = field && field->type() == protobuf::FieldDescriptor::TYPE_MESSAGE &&
                                 WireFormat::GetTagWireType(tag) == WireFormat::WIRETYPE_LENGTH_DELIMITED;
            if ((message || !field) && ++messages_ > limit_)
                return false;
            if (!message) {
                if (!WireFormat::SkipField(&in, tag))
                    return true;
                continue;
            }
            std::uint32_t length = 0;
            if (depth >= max_depth || !in.ReadVarint32(&length))
                return true;
            const auto outer = in.PushLimit(static_cast<int>(length));
            if (!count(in, *field->message_type(), depth + 1))
                return false;
            // What the inner one did not read: it was malformed.
            if (in.BytesUntilLimit() > 0)
                return true;
            in.PopLimit(outer);
        }
        return true;
    }

  private:
    std::size_t limit_;
    std::size_t messages_ = 0;
};

protobuf::util::TypeResolver& type_resolver() {
    static const std::unique_ptr<protobuf::util::TypeResolver> resolver(
        protobuf::util::NewTypeResolverForDescriptorPool(
            std::string(json_type_prefix.substr(0, json_type_prefix.size() - 1)),
            OtlpRequest::descriptor()->file()->pool()));
    return *resolver;
}

// protobuf's own words about bad input quote it, at length.
std::string shortened(std::string_view text) {
    constexpr std::size_t longest = 200;
    return std::string(text.substr(0, longest));
}

Result<std::string> binary_of(std::string_view json) {
    std::string binary;
    protobuf::util::JsonParseOptions options;
    // As the protocol asks of receivers.
    options.ignore_unknown_fields = true;
    const auto status = protobuf::util::JsonToBinaryString(
        &type_resolver(), std::string(json_type_prefix) + OtlpRequest::descriptor()->full_name(),
        std::string(json), &binary, options);
    if (!status.ok())
        return failure("the body is no JSON of OTLP: " + shortened(status.ToString()));
    return binary;
}

}  // namespace

Result<OtlpRequest> parse_otlp(std::string_view body, OtlpEncoding encoding, std::size_t max_messages) {
    std::string converted;
    if (encoding == OtlpEncoding::json) {
        Result<std::string> binary = binary_of(body);
        if (!binary)
            return std::unexpected(binary.error());
        converted = std::move(*binary);
        body = converted;
    }
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(body.data());
    protobuf::io::CodedInputStream in(bytes, static_cast<int>(body.size()));
    if (!MessageCounter(max_messages).count(in, *OtlpRequest::descriptor()))
        return failure(fmt::format("the request has more than {} elements", max_messages),
                       "Send it in smaller parts.", E2BIG);
    OtlpRequest request;
    if (!request.ParseFromArray(body.data(), static_cast<int>(body.size())))
        return failure("the body is no ExportMetricsServiceRequest");
    return request;
}

std::string otlp_response(const ApplicationOutcome& outcome, OtlpEncoding encoding) {
    OtlpResponse response;
    if (outcome.rejected() > 0) {
        std::string message;
        for (std::size_t i = 0; i < rejections; ++i)
            if (outcome.by_reason.at(i) > 0)
                message += fmt::format("{}{}: {}", message.empty() ? "" : ", ",
                                       to_string(static_cast<Rejection>(i)), outcome.by_reason.at(i));
        response.mutable_partial_success()->set_rejected_data_points(
            static_cast<std::int64_t>(outcome.rejected()));
        response.mutable_partial_success()->set_error_message(message);
    }
    if (encoding == OtlpEncoding::protobuf)
        return response.SerializeAsString();
    std::string json;
    std::ignore = protobuf::util::MessageToJsonString(response, &json);
    return json;
}

std::string otlp_status(int code, std::string_view message, OtlpEncoding encoding) {
    if (encoding == OtlpEncoding::json)
        return nlohmann::json({{"code", code}, {"message", message}})
            .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    // The message itself is in a package of its own; its fields 1 and 2 are these.
    protobuf::UnknownFieldSet status;
    status.AddVarint(1, static_cast<std::uint64_t>(code));
    status.AddLengthDelimited(2, std::string(message));
    std::string text;
    std::ignore = status.SerializeToString(&text);
    return text;
}

}  // namespace pangolin
