#include "loader/wireguard_probe.h"

#include <spdlog/spdlog.h>

#include "loader/handshake_maps.h"
#include "loader/module_probe.h"
#include "loader/pinned_maps.h"
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

Result<HandshakeSource> choose_handshake_source(const WireGuardInterface& interface, HandshakeMode mode) {
    if (mode == HandshakeMode::underlay)
        return HandshakeSource::underlay;
    const auto supported = ModuleProbe::supported(interface);
    if (supported)
        return HandshakeSource::module;
    if (mode == HandshakeMode::module)
        return std::unexpected(supported.error());
    spdlog::debug("{}: handshakes are observed on the network, not inside WireGuard: {}", interface.name,
                  supported.error().message());
    return HandshakeSource::underlay;
}

Result<std::unique_ptr<WireGuardProbe>> load_wireguard_probe(HandshakeSource source,
                                                             const WireGuardInterface& interface,
                                                             const WireGuardListener& listener,
                                                             HookMode hooks,
                                                             const std::optional<KeptPins>& pins) {
    if (source == HandshakeSource::module) {
        auto probe = ModuleProbe::load(interface, pins);
        if (!probe)
            return std::unexpected(probe.error());
        return std::move(*probe);
    }
    auto probe = UnderlayProbe::load(interface, listener, hooks, pins);
    if (!probe)
        return std::unexpected(probe.error());
    return std::move(*probe);
}

LastHandshakes read_last_handshakes(const PinFolder& pins, const HandshakeReadings& taken) {
    const UniqueFd ended =
        open_pinned_map(pins, "ended_handshakes", sizeof(std::uint32_t), sizeof(handshake));
    const UniqueFd counts =
        open_pinned_map(pins, "handshake_counts", sizeof(handshake_count_key), sizeof(std::uint64_t));
    if (!ended || !counts)
        return {};
    HandshakeMaps maps({.ended = ended.get(), .counts = counts.get()});
    maps.restore(taken);
    return {.handshakes = maps.take_handshakes(), .counts = maps.take_counts()};
}

}  // namespace pangolin
