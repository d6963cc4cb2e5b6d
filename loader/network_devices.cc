#include "loader/network_devices.h"

#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "loader/netlink.h"

namespace pangolin {
namespace {

// A dump of many links is rarely interrupted twice.
constexpr int dump_attempts = 5;

std::optional<LinkLayer> link_layer_of(unsigned short hardware_type) {
    switch (hardware_type) {
        case ARPHRD_ETHER:
        case ARPHRD_LOOPBACK:
            return LinkLayer::ethernet;
        case ARPHRD_NONE:
        case ARPHRD_RAWIP:
        case ARPHRD_PPP:
        case ARPHRD_TUNNEL:
        case ARPHRD_TUNNEL6:
        case ARPHRD_SIT:
        case ARPHRD_IPGRE:
        case ARPHRD_IP6GRE:
            return LinkLayer::none;
        default:
            return std::nullopt;
    }
}

// What of a link's attributes decides; refers to the message.
struct Link {
    std::string_view name;
    std::string_view kind;
    std::string_view master_kind;
    bool has_master = false;
    bool has_lower = false;
    bool lower_is_elsewhere = false;
};

Link read_link(const nlmsghdr& message) {
    Link link;
    for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof(ifinfomsg))) {
        switch (attribute.type) {
            case IFLA_IFNAME:
                link.name = attribute.text();
                break;
            case IFLA_MASTER:
                link.has_master = true;
                break;
            case IFLA_LINK:
                link.has_lower = true;
                break;
            case IFLA_LINK_NETNSID:
                link.lower_is_elsewhere = true;
                break;
            case IFLA_LINKINFO:
                for (const NetlinkAttribute& info : attribute.nested()) {
                    if (info.type == IFLA_INFO_KIND)
                        link.kind = info.text();
                    else if (info.type == IFLA_INFO_SLAVE_KIND)
                        link.master_kind = info.text();
                }
                break;
            default:
                break;
        }
    }
    return link;
}

// Whether another device of the namespace sees the same packets.
bool repeats_another(const Link& link) {
    if (link.has_master && link.master_kind != "vrf")
        return true;
    return link.kind == "ifb" || (link.kind == "ipvlan" && link.has_lower && !link.lower_is_elsewhere);
}

std::optional<NetworkDevice> parse_device(const nlmsghdr& message, const NetworkInterface& tunnel) {
    if (message.nlmsg_type != RTM_NEWLINK || message.nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg)))
        return std::nullopt;
    ifinfomsg header{};
    std::memcpy(&header, mnl_nlmsg_get_payload(&message), sizeof header);
    const Link link = read_link(message);
    const auto link_layer = link_layer_of(header.ifi_type);
    const auto index = static_cast<unsigned>(header.ifi_index);
    if (!link_layer || index == tunnel.index || link.kind == "wireguard" || repeats_another(link))
        return std::nullopt;
    NetworkDevice device;
    device.netns = tunnel.netns;
    device.index = index;
    device.name = link.name;
    device.link_layer = *link_layer;
    return device;
}

// Of the calling thread's namespace.
Result<void> dump_devices(NetlinkSocket& socket, const NetworkInterface& tunnel,
                          std::vector<NetworkDevice>& devices) {
    std::array<char, 128> buffer{};
    nlmsghdr* const request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = RTM_GETLINK;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg));
    // Statistics are most of the work of a dump.
    mnl_attr_put_u32(request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    devices.clear();
    return socket.exchange(request, [&](const nlmsghdr& message) -> Result<void> {
        if (auto device = parse_device(message, tunnel))
            devices.push_back(std::move(*device));
        return {};
    });
}

}  // namespace

Result<std::vector<NetworkDevice>> list_underlay_devices(const NetworkInterface& tunnel) {
    std::vector<NetworkDevice> devices;
    const auto listed = run_in_network_namespace(tunnel.netns, [&]() -> Result<void> {
        auto socket = NetlinkSocket::open(NETLINK_ROUTE);
        if (!socket)
            return std::unexpected(std::move(socket.error()));
        Result<void> done;
        for (int attempt = 0; attempt < dump_attempts; ++attempt) {
            done = dump_devices(*socket, tunnel, devices);
            if (done || done.error().code != EINTR)
                break;
        }
        for (NetworkDevice& device : devices)
            device.netns_cookie = socket->netns_cookie();
        return done;
    });
    if (!listed)
        return failure("cannot list the devices under " + tunnel.name + ": " + listed.error().what,
                       listed.error().hint, listed.error().code);
    std::ranges::sort(devices, {}, &NetworkDevice::index);
    return devices;
}

}  // namespace pangolin
