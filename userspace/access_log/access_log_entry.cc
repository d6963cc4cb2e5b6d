#include "userspace/access_log/access_log_entry.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "bpf/shared/http.h"

namespace pangolin {
namespace {

using Json = nlohmann::json;

struct Fields {
    std::string service;
    std::string url;
    // Of ServiceURL where it is an object, as Traefik 2 writes it.
    std::string url_scheme;
    std::string url_host;
    std::string address;
    std::string host;
    std::string method;
    std::string content_type;
    std::optional<std::uint64_t> origin_status;
    std::optional<std::uint64_t> status;
    std::optional<std::uint64_t> origin_duration;
    std::optional<std::uint64_t> duration;
    std::optional<std::uint64_t> origin_size;
    std::optional<std::uint64_t> size;
};

using Text = std::string Fields::*;
using Number = std::optional<std::uint64_t> Fields::*;

constexpr auto texts = std::to_array<std::pair<std::string_view, Text>>({
    {"ServiceName", &Fields::service},
    {"ServiceURL", &Fields::url},
    {"ServiceAddr", &Fields::address},
    {"RequestHost", &Fields::host},
    {"RequestMethod", &Fields::method},
    {"origin_Content-Type", &Fields::content_type},
    {"downstream_Content-Type", &Fields::content_type},
});
constexpr auto texts_of_url = std::to_array<std::pair<std::string_view, Text>>({
    {"Scheme", &Fields::url_scheme},
    {"Host", &Fields::url_host},
});
constexpr auto numbers = std::to_array<std::pair<std::string_view, Number>>({
    {"OriginStatus", &Fields::origin_status},
    {"DownstreamStatus", &Fields::status},
    {"OriginDuration", &Fields::origin_duration},
    {"Duration", &Fields::duration},
    {"OriginContentSize", &Fields::origin_size},
    {"DownstreamContentSize", &Fields::size},
});

// Takes the fields out of a line without keeping the rest of it: there may be headers in it.
class Reader : public nlohmann::json_sax<Json> {
  public:
    Fields fields;

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t value) override {
        if (value >= 0)
            take(static_cast<std::uint64_t>(value));
        return true;
    }
    bool number_unsigned(number_unsigned_t value) override {
        take(value);
        return true;
    }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t& value) override {
        const auto store = [&](const auto& names) {
            for (const auto& [name, text] : names)
                if (name == key_)
                    fields.*text = value;
        };
        if (depth_ == 1)
            store(texts);
        else if (depth_ == 2 && in_url_)
            store(texts_of_url);
        return true;
    }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override { return enter(); }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t) override { return depth_ > 0 && enter(); }
    bool end_array() override { return leave(); }
    bool key(string_t& value) override {
        key_ = std::move(value);
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
        return false;
    }

  private:
    void take(std::uint64_t value) {
        if (depth_ != 1)
            return;
        for (const auto& [name, number] : numbers)
            if (name == key_)
                fields.*number = value;
    }
    bool enter() {
        in_url_ = depth_ == 1 && key_ == "ServiceURL";
        return ++depth_ <= most_depth;
    }
    bool leave() {
        --depth_;
        return true;
    }

    static constexpr int most_depth = 8;
    int depth_ = 0;
    bool in_url_ = false;
    std::string key_;
};

// Traefik's own answers for what it got none for (pkg/proxy/httputil/proxy.go): the status's text is the
// body.
struct OwnAnswer {
    std::uint64_t status;
    std::uint64_t size;
};
constexpr auto own_answers = std::to_array<OwnAnswer>({
    {499, std::string_view("Client Closed Request").size()},
    {500, std::string_view("Internal Server Error").size()},
    {502, std::string_view("Bad Gateway").size()},
    {504, std::string_view("Gateway Timeout").size()},
});

bool is_own_answer(std::uint64_t status, std::optional<std::uint64_t> size) {
    for (const OwnAnswer& own : own_answers)
        if (own.status == status)
            return status == 499 || own.size == size;
    return false;
}

AccessLogEnd end_of(const Fields& fields, std::uint64_t status, std::optional<std::uint64_t> size) {
    const bool no_origin = fields.origin_status == 0U;
    if (status == 0 || status == 101)
        return AccessLogEnd::upgraded;
    if (is_own_answer(status, size))
        return AccessLogEnd::unanswered;
    return no_origin ? AccessLogEnd::cut_off : AccessLogEnd::complete;
}

}  // namespace

std::optional<AccessLogEntry> parse_access_log_line(std::string_view line) {
    Reader reader;
    if (!Json::sax_parse(line.begin(), line.end(), &reader))
        return std::nullopt;
    Fields& fields = reader.fields;
    if (!fields.status && !fields.origin_status)
        return std::nullopt;
    AccessLogEntry entry;
    const bool has_origin = fields.origin_status.value_or(0) != 0;
    const std::uint64_t status = has_origin ? *fields.origin_status : fields.status.value_or(0);
    if (status > 999)
        return std::nullopt;
    entry.size = has_origin && fields.origin_size ? fields.origin_size : fields.size;
    entry.duration_ns = has_origin && fields.origin_duration ? fields.origin_duration : fields.duration;
    entry.end = end_of(fields, status, entry.size);
    if (entry.end == AccessLogEnd::upgraded)
        entry.status = 101;
    else if (entry.end != AccessLogEnd::unanswered)
        entry.status = static_cast<std::uint16_t>(status);
    if (fields.url.empty() && !fields.url_host.empty())
        fields.url = fields.url_scheme + "://" + fields.url_host;
    entry.server = parse_traefik_server(fields.url.empty() ? fields.address : fields.url);
    entry.service = std::move(fields.service);
    entry.host = std::move(fields.host);
    entry.method = std::move(fields.method);
    entry.event_stream = fields.content_type.starts_with("text/event-stream");
    return entry;
}

}  // namespace pangolin
