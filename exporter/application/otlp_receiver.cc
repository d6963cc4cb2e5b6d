#include "exporter/application/otlp_receiver.h"

#include <cerrno>
#include <exception>
#include <utility>

#include "exporter/application/gunzip.h"
#include "exporter/application/otlp_conversion.h"
#include "exporter/application/otlp_request.h"
#include "loader/base/letter_case.h"

namespace pangolin {

namespace {

namespace http = boost::beast::http;

constexpr std::string_view metrics_path = "/v1/metrics";
constexpr std::string_view protobuf_type = "application/x-protobuf";
constexpr std::string_view json_type = "application/json";

// google.rpc.Code
constexpr int invalid_argument = 3;
constexpr int resource_exhausted = 8;
constexpr int unavailable = 14;
constexpr int unauthenticated = 16;

// "application/json" of "application/json; charset=utf-8".
std::string_view media_type(std::string_view content_type) {
    std::string_view type = content_type.substr(0, content_type.find(';'));
    while (type.ends_with(' ') || type.ends_with('\t'))
        type.remove_suffix(1);
    return type;
}

std::optional<OtlpEncoding> encoding_of(const HttpRequest& request) {
    const std::string_view type = media_type(request.content_type);
    if (equal_ignoring_case(type, protobuf_type))
        return OtlpEncoding::protobuf;
    if (equal_ignoring_case(type, json_type))
        return OtlpEncoding::json;
    return std::nullopt;
}

HttpAnswer answer(http::status status, std::string text, OtlpEncoding encoding) {
    return {.status = status,
            .content_type = encoding == OtlpEncoding::json ? json_type : protobuf_type,
            .text = std::move(text)};
}

HttpAnswer refusal(http::status status, int code, std::string_view reason, OtlpEncoding encoding) {
    HttpAnswer refused = answer(status, otlp_status(code, reason, encoding), encoding);
    if (status == http::status::service_unavailable)
        refused.headers.emplace_back(http::field::retry_after, "10");
    if (status == http::status::unauthorized)
        refused.headers.emplace_back(http::field::www_authenticate, "Bearer");
    return refused;
}

}  // namespace

OtlpReceiver::OtlpReceiver(OtlpReceiverOptions options, ApplicationMetrics& registry)
    : options_(std::move(options)),
      registry_(registry),
      server_(
          {.max_connections = options_.max_connections,
           .port_hint = "Choose another one with metrics.application.otlp.listen, or switch the receiver off "
                        "with metrics.application.otlp.enabled: false; an OpenTelemetry collector has 4318 "
                        "by default as well."},
          service(), {.rejected = [this] {
              registry_.count_own("pangolin_exporter_otlp_connections_rejected_total", {});
          }}) {
    if (!options_.token_file.empty())
        token_.emplace(options_.token_file);
}

Result<std::unique_ptr<OtlpReceiver>> OtlpReceiver::start(OtlpReceiverOptions options,
                                                          ApplicationMetrics& registry) {
    try {
        std::unique_ptr<OtlpReceiver> receiver(new OtlpReceiver(std::move(options), registry));
        if (receiver->token_)
            if (const Result<void> token = receiver->token_->read(); !token)
                return std::unexpected(token.error());
        if (const Result<void> listening = receiver->server_.listen({receiver->options_.listen}); !listening)
            return std::unexpected(listening.error());
        receiver->server_.run();
        return receiver;
    } catch (const std::exception& error) {
        return failure(std::string("cannot start the OTLP receiver: ") + error.what());
    }
}

HttpService OtlpReceiver::service() {
    HttpService service;
    service.limits = options_.limits;
    service.methods = "POST";
    service.objection = [this](const HttpRequest& request) { return objection(request); };
    service.handler = [this](const HttpRequest& request) -> boost::asio::awaitable<HttpAnswer> {
        co_return receive(request);
    };
    service.answered = [this](std::string_view, unsigned status) {
        registry_.count_own("pangolin_exporter_otlp_responses_total", {std::to_string(status)});
    };
    return service;
}

// What the header is enough to refuse.
std::optional<HttpAnswer> OtlpReceiver::objection(const HttpRequest& request) {
    const OtlpEncoding encoding = encoding_of(request).value_or(OtlpEncoding::json);
    if (token_) {
        const Result<bool> allowed = token_->allows(request.authorization);
        if (!allowed)
            return refusal(http::status::service_unavailable, unavailable,
                           "the token to compare with cannot be read", encoding);
        if (!*allowed)
            return refusal(http::status::unauthorized, unauthenticated, "a bearer token is needed", encoding);
    }
    if (request.path != metrics_path)
        return HttpAnswer{.status = http::status::not_found, .text = "Only /v1/metrics is here.\n"};
    if (!encoding_of(request))
        return HttpAnswer{.status = http::status::unsupported_media_type,
                          .text = "Send application/x-protobuf or application/json.\n"};
    const std::string_view packing = request.content_encoding;
    if (!packing.empty() && !equal_ignoring_case(packing, "gzip") &&
        !equal_ignoring_case(packing, "identity"))
        return HttpAnswer{.status = http::status::unsupported_media_type,
                          .text = "Only gzip is unpacked here.\n",
                          .headers = {{http::field::accept_encoding, "gzip"}}};
    return std::nullopt;
}

HttpAnswer OtlpReceiver::receive(const HttpRequest& request) {
    // The objection has seen to it that there is one.
    const OtlpEncoding encoding = encoding_of(request).value_or(OtlpEncoding::json);
    std::string_view body = request.body;
    std::string unpacked;
    if (equal_ignoring_case(request.content_encoding, "gzip")) {
        Result<std::string> plain = gunzip(body, options_.unpacked_bytes);
        if (!plain)
            return plain.error().code == E2BIG
                       ? refusal(http::status::payload_too_large, resource_exhausted, plain.error().what,
                                 encoding)
                       : refusal(http::status::bad_request, invalid_argument, plain.error().what, encoding);
        unpacked = std::move(*plain);
        body = unpacked;
    }
    const Result<OtlpRequest> metrics = parse_otlp(body, encoding);
    if (!metrics)
        return metrics.error().code == E2BIG
                   ? refusal(http::status::payload_too_large, resource_exhausted, metrics.error().message(),
                             encoding)
                   : refusal(http::status::bad_request, invalid_argument, metrics.error().what, encoding);
    return answer(http::status::ok, otlp_response(import_otlp(*metrics, registry_), encoding), encoding);
}

}  // namespace pangolin
