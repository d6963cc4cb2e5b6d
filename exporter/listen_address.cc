#include "exporter/listen_address.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/base/ip_prefix.h"
#include "loader/base/number.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

std::unexpected<Error> not_an_address(std::string_view text, std::string_view why) {
    return failure(fmt::format("{} is not an address to listen on: {}", in_quotes(text), why),
                   "Write HOST:PORT, :PORT or [IPV6]:PORT, for example 127.0.0.1:9464 or [::1]:9464.");
}

bool is_host_name(std::string_view host) {
    constexpr std::size_t longest_host_name = 253;
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '.' || c == '_';
    };
    if (host.size() > longest_host_name || !std::ranges::all_of(host, allowed))
        return false;
    // All digits and dots: somebody meant an IPv4 address.
    return host.find_first_not_of("0123456789.") != std::string_view::npos;
}

bool is_host(std::string_view host) {
    return host.empty() || IpAddress::parse(host) || is_host_name(host);
}

bool is_ipv6(std::string_view host) {
    const auto address = IpAddress::parse(host);
    return address && address->family == IpFamily::v6;
}

struct HostAndPort {
    std::string_view host;
    std::optional<std::string_view> port;
};

Result<HostAndPort> split(std::string_view text) {
    if (text.starts_with('[')) {
        const auto bracket = text.find(']');
        if (bracket == std::string_view::npos)
            return not_an_address(text, "']' is missing");
        const std::string_view host = text.substr(1, bracket - 1);
        const std::string_view rest = text.substr(bracket + 1);
        if (!is_ipv6(host))
            return not_an_address(text, "what stands in brackets is no IPv6 address");
        if (rest.empty())
            return HostAndPort{host, std::nullopt};
        if (!rest.starts_with(':'))
            return not_an_address(text, "':' and a port must follow ']'");
        return HostAndPort{host, rest.substr(1)};
    }
    // An IPv6 address alone; with a port it must be in brackets.
    if (is_ipv6(text))
        return HostAndPort{text, std::nullopt};
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return HostAndPort{text, std::nullopt};
    return HostAndPort{text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace

Result<ListenAddress> ListenAddress::parse(std::string_view text,
                                           std::optional<std::uint16_t> port_if_missing) {
    const auto parts = split(text);
    if (!parts)
        return std::unexpected(parts.error());
    if (!is_host(parts->host))
        return not_an_address(text, in_quotes(parts->host) + " is neither an IP address nor a host name");
    const std::optional<std::string_view> digits = parts->port;
    const auto port = digits ? parse_number<std::uint16_t>(*digits) : port_if_missing;
    if (!port)
        return not_an_address(text,
                              digits ? "the port is not a number from 0 to 65535" : "the port is missing");
    if (text.empty())
        return not_an_address(text, "it is empty");
    return ListenAddress{std::string(parts->host), *port};
}

std::string ListenAddress::to_string() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

}  // namespace pangolin
