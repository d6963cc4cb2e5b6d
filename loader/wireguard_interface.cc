#include "loader/wireguard_interface.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "loader/netlink.h"
#include "loader/uapi_socket_search.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;

constexpr auto first_pause = 1s;
constexpr auto longest_pause = 30s;
// A dump of many links is rarely interrupted twice; once a second somebody asks again anyway.
constexpr int dump_attempts = 5;

// The link that a message describes, when it is of a kind that can be WireGuard's.
std::optional<WireGuardInterface> parse_link(const nlmsghdr& message) {
    if (message.nlmsg_type != RTM_NEWLINK || message.nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg)))
        return std::nullopt;
    ifinfomsg header{};
    std::memcpy(&header, mnl_nlmsg_get_payload(&message), sizeof header);
    WireGuardInterface link;
    link.index = static_cast<unsigned>(header.ifi_index);
    std::string_view kind;
    for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof header)) {
        if (attribute.type == IFLA_IFNAME)
            link.name = attribute.text();
        if (attribute.type != IFLA_LINKINFO)
            continue;
        for (const NetlinkAttribute& info : attribute.nested()) {
            if (info.type == IFLA_INFO_KIND)
                kind = info.text();
        }
    }
    if (kind != "wireguard" && kind != "tun")
        return std::nullopt;
    link.implementation =
        kind == "tun" ? WireGuardImplementation::userspace : WireGuardImplementation::kernel;
    return link;
}

Result<void> dump_links(NetlinkSocket& socket, std::vector<WireGuardInterface>& links) {
    std::array<char, 128> buffer{};
    nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = RTM_GETLINK;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg));
    // Statistics are most of the work of a dump.
    mnl_attr_put_u32(request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    return socket.exchange(request, [&](const nlmsghdr& message) -> Result<void> {
        if (auto link = parse_link(message))
            links.push_back(std::move(*link));
        return {};
    });
}

// The links of the calling thread's namespace that can be WireGuard's.
Result<std::vector<WireGuardInterface>> list_links() {
    auto socket = NetlinkSocket::open(NETLINK_ROUTE);
    if (!socket)
        return std::unexpected(std::move(socket.error()));
    std::vector<WireGuardInterface> links;
    Result<void> done;
    for (int attempt = 0; attempt < dump_attempts; ++attempt) {
        links.clear();
        done = dump_links(*socket, links);
        if (done || done.error().code != EINTR)
            break;
    }
    if (!done)
        return std::unexpected(std::move(done.error()));
    for (WireGuardInterface& link : links)
        link.netns_cookie = socket->netns_cookie();
    std::ranges::sort(links, {}, &WireGuardInterface::index);
    return links;
}

Result<std::vector<WireGuardInterface>> list_links(const std::vector<NetworkNamespace>& namespaces) {
    std::vector<WireGuardInterface> all;
    const auto visited =
        visit_network_namespaces(namespaces, [&](const NetworkNamespace& netns) -> Result<void> {
            auto links = list_links();
            if (!links)
                return failure("cannot list the interfaces of network namespace " + netns.name + ": " +
                                   links.error().what,
                               links.error().hint, links.error().code);
            for (WireGuardInterface& link : *links) {
                link.netns = netns;
                all.push_back(std::move(link));
            }
            return {};
        });
    if (!visited)
        return std::unexpected(visited.error());
    return all;
}

bool is_tun(const WireGuardInterface& link) {
    return link.implementation == WireGuardImplementation::userspace;
}

}  // namespace

std::string_view to_string(WireGuardImplementation implementation) {
    return implementation == WireGuardImplementation::kernel ? "kernel" : "userspace";
}

WireGuardInterfaceFinder::WireGuardInterfaceFinder(std::vector<std::string> names)
    : names_(std::move(names)) {}

WireGuardInterfaceFinder::TunKey WireGuardInterfaceFinder::key_of(const WireGuardInterface& link) {
    return {link.netns.id, link.netns_cookie, link.index, link.name};
}

Result<std::vector<WireGuardInterface>> WireGuardInterfaceFinder::find(
    const std::vector<NetworkNamespace>& namespaces) {
    auto links = list_links(namespaces);
    if (!links)
        return links;
    if (!names_.empty()) {
        std::erase_if(*links,
                      [&](const auto& link) { return std::ranges::find(names_, link.name) == names_.end(); });
    }
    if (auto found = find_uapi_sockets(*links); !found)
        return std::unexpected(std::move(found.error()));
    std::erase_if(*links, [](const auto& link) { return is_tun(link) && link.uapi_socket.empty(); });
    return links;
}

Result<void> WireGuardInterfaceFinder::find_uapi_sockets(std::vector<WireGuardInterface>& links) {
    UapiSocketSearch search;
    const auto now = std::chrono::steady_clock::now();
    std::map<TunKey, TunKnowledge> known;
    for (WireGuardInterface& link : links) {
        if (!is_tun(link))
            continue;
        const auto has_same_name = [&](const auto& other) {
            return is_tun(other) && other.name == link.name;
        };
        const TunLink tun_link{link.netns, link.name, std::ranges::count_if(links, has_same_name) == 1};
        const auto remembered = known_tuns_.find(key_of(link));
        TunKnowledge tun = remembered == known_tuns_.end() ? TunKnowledge{} : std::move(remembered->second);
        if (!tun.uapi_socket.empty() && !UapiSocketSearch::still_answers(tun.uapi_socket, tun_link))
            tun = {};
        if (tun.uapi_socket.empty() && now >= tun.next_look) {
            auto found = search.find(tun_link);
            if (!found)
                return std::unexpected(std::move(found.error()));
            tun.uapi_socket = std::move(*found);
            tun.pause =
                std::clamp<std::chrono::steady_clock::duration>(2 * tun.pause, first_pause, longest_pause);
            tun.next_look = now + tun.pause;
        }
        link.uapi_socket = tun.uapi_socket;
        known.emplace(key_of(link), std::move(tun));
    }
    known_tuns_ = std::move(known);
    return {};
}

Result<std::vector<WireGuardInterface>> find_wireguard_interfaces(
    const std::vector<NetworkNamespace>& namespaces, const std::vector<std::string>& names) {
    return WireGuardInterfaceFinder(names).find(namespaces);
}

}  // namespace pangolin
