#include "userspace/metadata/row_fields.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "userspace/metadata/text.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

constexpr std::size_t most_lines = 20;

bool is_placeholder(const IpPrefix& prefix) {
    const std::uint64_t host = prefix.network.family == IpFamily::v4
                                   ? prefix.network.v4_value()
                                   : prefix.network.high | prefix.network.low;
    return host == 0 && prefix.length == max_prefix_length(prefix.network.family);
}

}  // namespace

void RowProblems::log() {
    std::size_t lines = 0;
    for (const std::string& problem : problems_)
        if (!known_.contains(problem) && ++lines <= most_lines)
            spdlog::warn("{}", problem);
    if (lines > most_lines)
        spdlog::warn("{} more rows of Pangolin's database have such problems", lines - most_lines);
    known_ = problems_;
}

std::string RowFields::text(std::string_view column, const Text& value) const {
    if (!value)
        return {};
    if (is_utf8(*value))
        return *value;
    report(fmt::format("{} {} is not UTF-8", column, in_quotes(*value)));
    return valid_utf8(*value);
}

std::optional<WireGuardKey> RowFields::key(std::string_view column, const Text& value) const {
    if (!value || value->empty())
        return std::nullopt;
    const auto key = WireGuardKey::from_base64(*value);
    if (key)
        return *key;
    report(fmt::format("{} is {}", column, key.error().what));
    return std::nullopt;
}

std::optional<IpPrefix> RowFields::network(std::string_view column, const Text& value) const {
    if (!value || value->empty())
        return std::nullopt;
    const auto prefix = IpPrefix::parse(*value);
    if (!prefix)
        report(fmt::format("{} {} is not a network prefix", column, in_quotes(*value)));
    if (!prefix || is_placeholder(*prefix))
        return std::nullopt;
    return *prefix;
}

std::optional<std::uint16_t> RowFields::port(std::string_view column, const Integer& value) const {
    if (!value || *value == 0)
        return std::nullopt;
    if (*value >= 1 && *value <= 65535)
        return static_cast<std::uint16_t>(*value);
    report(fmt::format("{} {} is no port", column, *value));
    return std::nullopt;
}

std::optional<bool> RowFields::boolean(std::string_view column, const Integer& value) const {
    if (!value)
        return std::nullopt;
    if (*value == 0 || *value == 1)
        return *value == 1;
    report(fmt::format("{} is {}, neither 0 nor 1", column, *value));
    return std::nullopt;
}

void RowFields::report(std::string_view what) const {
    const std::string name = nice_id_ ? fmt::format(" ({})", in_quotes(*nice_id_)) : "";
    problems_.add(fmt::format("Pangolin's {} {}{}: {}", kind_, id_, name, what));
}

}  // namespace pangolin
