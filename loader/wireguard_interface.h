// Finding WireGuard interfaces.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "loader/network_interface.h"

namespace pangolin {

enum class WireGuardImplementation : std::uint8_t { kernel, userspace };
std::string_view to_string(WireGuardImplementation implementation);

struct WireGuardInterface : NetworkInterface {
    WireGuardImplementation implementation = WireGuardImplementation::kernel;
    // Path of the UAPI socket; userspace implementations only. May be below /proc/PID/root for a container:
    // open it with connect_uapi_socket().
    std::string uapi_socket;
};

// Lists WireGuard interfaces again and again: links of kind "wireguard", and TUN links for which a UAPI
// socket NAME.sock answers in a /run/wireguard folder, be it of our own mount namespace or of that of a
// process in the link's network namespace. Between two calls it remembers which TUN link belongs to which
// socket (and which to none), but holds no descriptor: nothing here keeps a namespace alive. Not thread-safe.
class WireGuardInterfaceFinder {
  public:
    // `names` restricts by interface name; empty means all.
    explicit WireGuardInterfaceFinder(std::vector<std::string> names = {});

    // In the order of `namespaces`, then by index. A namespace that vanished meanwhile is skipped.
    Result<std::vector<WireGuardInterface>> find(const std::vector<NetworkNamespace>& namespaces);

  private:
    struct TunKey {
        NetworkNamespaceId netns;
        std::uint64_t netns_cookie = 0;
        unsigned index = 0;
        std::string name;
        auto operator<=>(const TunKey&) const = default;
    };
    struct TunKnowledge {
        // Empty while no socket answered.
        std::string uapi_socket;
        // A link that nobody answers for may be another program's: it is looked at more and more rarely.
        std::chrono::steady_clock::time_point next_look;
        std::chrono::steady_clock::duration pause{};
    };

    static TunKey key_of(const WireGuardInterface& link);
    Result<void> find_uapi_sockets(std::vector<WireGuardInterface>& links);

    std::vector<std::string> names_;
    std::map<TunKey, TunKnowledge> known_tuns_;
};

// WireGuardInterfaceFinder for those who ask once.
Result<std::vector<WireGuardInterface>> find_wireguard_interfaces(
    const std::vector<NetworkNamespace>& namespaces, const std::vector<std::string>& names);

}  // namespace pangolin
