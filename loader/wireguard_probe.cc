#include "loader/wireguard_probe.h"

#include <spdlog/spdlog.h>

#include "loader/module_probe.h"
#include "loader/underlay_probe.h"

namespace pangolin {

std::string_view to_string(HandshakeSource source) {
    switch (source) {
        case HandshakeSource::module:
            return "module";
        case HandshakeSource::underlay:
            return "underlay";
    }
    return "unknown";
}

Result<std::unique_ptr<WireGuardProbe>> open_wireguard_probe(const WireGuardInterface& interface,
                                                             const WireGuardListener& listener,
                                                             HandshakeMode mode, HookMode hooks) {
    if (mode != HandshakeMode::underlay) {
        auto probe = ModuleProbe::open(interface);
        if (probe)
            return std::move(*probe);
        if (mode == HandshakeMode::module)
            return std::unexpected(probe.error());
        spdlog::debug("{}: handshakes are observed on the network, not inside WireGuard: {}", interface.name,
                      probe.error().message());
    }
    auto probe = UnderlayProbe::open(interface, listener, hooks);
    if (!probe)
        return std::unexpected(probe.error());
    return std::move(*probe);
}

}  // namespace pangolin
