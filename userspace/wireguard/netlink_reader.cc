#include "userspace/wireguard/netlink_reader.h"

#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "userspace/wireguard/device_fields.h"

namespace pangolin {
namespace {

// A dump of 10,000 peers takes milliseconds; peers that change faster than this many of them in a row do not
// exist.
constexpr int dump_attempts = 10;

static_assert(sizeof(WireGuardKey) == WG_KEY_LEN);

// struct __kernel_timespec, which is not in every distribution's headers.
struct KernelTimespec {
    std::int64_t seconds;
    std::int64_t nanoseconds;
};

std::unexpected<Error> malformed(std::string_view what) {
    return failure("WireGuard's netlink answer: " + std::string(what), {}, EBADMSG);
}

Result<IpPrefix> parse_allowed_ip(const NetlinkAttributes& attributes) {
    std::optional<std::uint16_t> family;
    std::optional<std::uint8_t> length;
    NetlinkAttribute address;
    for (const NetlinkAttribute& attribute : attributes) {
        if (attribute.type == WGALLOWEDIP_A_FAMILY)
            family = attribute.as<std::uint16_t>();
        else if (attribute.type == WGALLOWEDIP_A_CIDR_MASK)
            length = attribute.as<std::uint8_t>();
        else if (attribute.type == WGALLOWEDIP_A_IPADDR)
            address = attribute;
    }
    if (!family || !length || (*family != AF_INET && *family != AF_INET6))
        return malformed("an allowed IP without family or length");
    const IpFamily ip_family = *family == AF_INET ? IpFamily::v4 : IpFamily::v6;
    if (*length > max_prefix_length(ip_family) ||
        address.payload.size() < (ip_family == IpFamily::v4 ? sizeof(in_addr) : sizeof(in6_addr)))
        return malformed("an allowed IP of a wrong length");
    return IpPrefix::make(IpAddress::from_network(ip_family, address.payload.data()), *length);
}

Result<void> append_allowed_ips(const NetlinkAttributes& list, std::vector<IpPrefix>& allowed_ips) {
    for (const NetlinkAttribute& entry : list) {
        const auto prefix = parse_allowed_ip(entry.nested());
        if (!prefix)
            return std::unexpected(prefix.error());
        allowed_ips.push_back(*prefix);
    }
    return {};
}

std::optional<Endpoint> parse_endpoint(const NetlinkAttribute& attribute) {
    const auto family = attribute.as<sa_family_t>();
    if (family == AF_INET) {
        if (const auto address = attribute.as<sockaddr_in>())
            return Endpoint{IpAddress::from_network(IpFamily::v4, &address->sin_addr),
                            ntohs(address->sin_port)};
    } else if (family == AF_INET6) {
        if (const auto address = attribute.as<sockaddr_in6>())
            return Endpoint{IpAddress::from_network(IpFamily::v6, &address->sin6_addr),
                            ntohs(address->sin6_port)};
    }
    return std::nullopt;
}

Result<void> set_peer_field(const NetlinkAttribute& attribute, WireGuardPeer& peer) {
    switch (attribute.type) {
        case WGPEER_A_RX_BYTES:
            peer.receive_bytes = attribute.as<std::uint64_t>().value_or(0);
            break;
        case WGPEER_A_TX_BYTES:
            peer.transmit_bytes = attribute.as<std::uint64_t>().value_or(0);
            break;
        case WGPEER_A_LAST_HANDSHAKE_TIME: {
            const auto time = attribute.as<KernelTimespec>().value_or(KernelTimespec{});
            if (!set_handshake_time(time.seconds, time.nanoseconds, peer))
                return malformed("a handshake outside of time");
            break;
        }
        case WGPEER_A_ENDPOINT:
            peer.endpoint = parse_endpoint(attribute);
            break;
        case WGPEER_A_ALLOWEDIPS:
            return append_allowed_ips(attribute.nested(), peer.allowed_ips);
        default:
            break;
    }
    return {};
}

class NetlinkReader : public WireGuardReader {
  public:
    NetlinkReader(NetlinkSocket socket, std::uint16_t family, const WireGuardInterface& interface)
        : socket_(std::move(socket)), family_(family), interface_(interface) {}

    Result<void> read(WireGuardDevice& device) override {
        Result<void> done;
        for (int attempt = 0; attempt < dump_attempts; ++attempt) {
            done = read_once(device);
            if (done || done.error().code != EINTR)
                break;
        }
        return done ? done : explain(done.error());
    }

  private:
    Result<void> read_once(WireGuardDevice& device) {
        std::array<char, 128> buffer{};
        nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
        request->nlmsg_type = family_;
        request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        auto* header = static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(request, sizeof(genlmsghdr)));
        header->cmd = WG_CMD_GET_DEVICE;
        header->version = WG_GENL_VERSION;
        mnl_attr_put_u32(request, WGDEVICE_A_IFINDEX, interface_.index);
        DeviceDump dump(device);
        auto done = socket_.exchange(request, [&](const nlmsghdr& message) { return dump.add(message); });
        if (done)
            dump.finish();
        return done;
    }

    std::unexpected<Error> explain(const Error& error) const {
        const std::string what = "WireGuard interface " + interface_.name + " in " + interface_.netns.name;
        // EOPNOTSUPP: the number belongs to a link of another kind by now.
        if (error.code == ENODEV || error.code == EOPNOTSUPP)
            return failure(what + " is gone", {}, ENODEV);
        return failure(what + ": " + error.what,
                       error.code == EPERM
                           ? "Reading WireGuard's peers needs CAP_NET_ADMIN: run as root or grant it."
                           : error.hint,
                       error.code);
    }

    NetlinkSocket socket_;
    std::uint16_t family_;
    WireGuardInterface interface_;
};

// The number that the running kernel gave to the family "wireguard".
Result<std::uint16_t> resolve_family(NetlinkSocket& socket) {
    std::array<char, 128> buffer{};
    nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = GENL_ID_CTRL;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    auto* header = static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(request, sizeof(genlmsghdr)));
    header->cmd = CTRL_CMD_GETFAMILY;
    header->version = 1;
    mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
    std::uint16_t family = 0;
    const auto done = socket.exchange(request, [&](const nlmsghdr& message) -> Result<void> {
        for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof(genlmsghdr))) {
            if (attribute.type == CTRL_ATTR_FAMILY_ID)
                family = attribute.as<std::uint16_t>().value_or(0);
        }
        return {};
    });
    if (!done && done.error().code != ENOENT)
        return std::unexpected(done.error());
    if (family == 0)
        return failure("this kernel has no WireGuard", "Load its module: modprobe wireguard.",
                       EPROTONOSUPPORT);
    return family;
}

}  // namespace

DeviceDump::DeviceDump(WireGuardDevice& device) : device_(device) {
    // An interface without a private key reports no public one either.
    device_.public_key = {};
    device_.listen_port = 0;
}

Result<void> DeviceDump::add(const nlmsghdr& message) {
    for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof(genlmsghdr))) {
        if (attribute.type == WGDEVICE_A_PUBLIC_KEY) {
            device_.public_key = attribute.as<WireGuardKey>().value_or(WireGuardKey{});
        } else if (attribute.type == WGDEVICE_A_LISTEN_PORT) {
            device_.listen_port = attribute.as<std::uint16_t>().value_or(0);
        } else if (attribute.type == WGDEVICE_A_PEERS) {
            for (const NetlinkAttribute& peer : attribute.nested()) {
                if (auto added = add_peer(peer.nested()); !added)
                    return added;
            }
        }
    }
    return {};
}

Result<void> DeviceDump::add_peer(const NetlinkAttributes& attributes) {
    std::optional<WireGuardKey> public_key;
    for (const NetlinkAttribute& attribute : attributes) {
        if (attribute.type == WGPEER_A_PUBLIC_KEY) {
            public_key = attribute.as<WireGuardKey>();
            break;
        }
    }
    if (!public_key)
        return malformed("a peer without a public key");
    WireGuardPeer& peer = peer_of(*public_key);
    for (const NetlinkAttribute& attribute : attributes) {
        if (auto set = set_peer_field(attribute, peer); !set)
            return set;
    }
    return {};
}

WireGuardPeer& DeviceDump::peer_of(const WireGuardKey& public_key) {
    // The last peer again: its remaining allowed IPs.
    if (peers_ > 0 && device_.peers[peers_ - 1].public_key == public_key)
        return device_.peers[peers_ - 1];
    return reuse_peer(device_, peers_++, public_key);
}

Result<std::unique_ptr<WireGuardReader>> open_netlink_reader(const WireGuardInterface& interface) {
    std::unique_ptr<WireGuardReader> reader;
    auto opened = run_in_network_namespace(interface.netns, [&]() -> Result<void> {
        auto socket = NetlinkSocket::open(NETLINK_GENERIC);
        if (!socket)
            return std::unexpected(std::move(socket.error()));
        const auto family = resolve_family(*socket);
        if (!family)
            return std::unexpected(family.error());
        reader = std::make_unique<NetlinkReader>(std::move(*socket), *family, interface);
        return {};
    });
    if (!opened) {
        Error error = std::move(opened.error());
        // With the namespace went the interface.
        error.code = error.code == ENOENT ? ENODEV : error.code;
        return std::unexpected(std::move(error));
    }
    return reader;
}

}  // namespace pangolin
