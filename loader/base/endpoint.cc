#include "loader/base/endpoint.h"

#include "loader/base/number.h"

namespace pangolin {

Result<Endpoint> Endpoint::parse(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    const auto malformed = [&] { return failure("'" + std::string(text) + "' is not an endpoint"); };
    if (colon == std::string_view::npos)
        return malformed();
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[')) {
        if (!host.ends_with(']'))
            return malformed();
        host = host.substr(1, host.size() - 2);
        host = host.substr(0, host.find('%'));
    }
    auto address = IpAddress::parse(host);
    const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
    if (!address || !port)
        return malformed();
    // A socket for both families reports IPv4 in its mapped form; on the network it is IPv4.
    if (address->family == IpFamily::v6 && address->high == 0 && address->low >> 32 == 0xffff)
        address->family = IpFamily::v4;
    return Endpoint{*address, *port};
}

std::string Endpoint::to_string() const {
    const std::string host = address.to_string();
    return (address.family == IpFamily::v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace pangolin
