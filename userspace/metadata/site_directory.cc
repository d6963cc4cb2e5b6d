#include "userspace/metadata/site_directory.h"

#include <fmt/format.h>

namespace pangolin {

std::string_view to_string(SiteType type) {
    switch (type) {
        case SiteType::newt:
            return "newt";
        case SiteType::wireguard:
            return "wireguard";
        case SiteType::local:
            return "local";
    }
    return "unknown";
}

TargetAddress TargetAddress::make(std::string_view host, std::uint16_t port) {
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    if (const auto address = IpAddress::parse(host))
        return make(*address, port);
    return {std::string(host), std::nullopt, port};
}

TargetAddress TargetAddress::make(const IpAddress& address, std::uint16_t port) {
    return {address.to_string(), address, port};
}

std::string TargetAddress::to_string() const {
    return address && address->family == IpFamily::v6 ? fmt::format("[{}]:{}", host, port)
                                                      : fmt::format("{}:{}", host, port);
}

}  // namespace pangolin
