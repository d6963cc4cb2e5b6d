// The maps of bpf/handshakes.bpf.h, read by userspace.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

#include "bpf/shared/handshake.h"
#include "loader/wireguard_probe.h"

namespace pangolin {

// A response or initiation that is not followed up within this time is lost: WireGuard begins anew after 5 s
// (REKEY_TIMEOUT, section 6.1 of the WireGuard paper) and up to a third of a second of jitter.
inline constexpr std::chrono::milliseconds handshake_timeout{5500};

// File descriptors of the maps, -1 for those that are not there, and where open_handshakes is.
struct HandshakeMapPlaces {
    int handshakes = -1;
    int ended = -1;
    int counts = -1;
    int losses = -1;
    std::uint32_t* open_handshakes = nullptr;
    // Elements stay until forget_written().
    bool outlive_process = false;
};

// All places belong to a loaded skeleton that must outlive this. Not thread-safe.
class HandshakeMaps {
  public:
    HandshakeMaps() = default;
    explicit HandshakeMaps(const HandshakeMapPlaces& places) : places_(places) {}

    // See WireGuardProbe.
    std::vector<handshake> take_handshakes();
    std::vector<HandshakeCount> take_counts();
    HandshakeLosses losses() const;
    void restore(const HandshakeReadings& readings);
    void add_to(HandshakeReadings& readings) const;
    void forget_written();

  private:
    struct CountKey {
        handshake_count_key key{};
        bool operator<(const CountKey& other) const;
    };
    struct Taken {
        std::uint64_t count = 0;
        std::chrono::steady_clock::time_point last_change;
    };

    void end_unfinished();

    HandshakeMapPlaces places_;
    // What take_counts() has returned of each element.
    std::map<CountKey, Taken> taken_;
    // Ended handshakes that take_handshakes() has returned and that are still there: key and begin_ns.
    std::map<std::uint32_t, std::uint64_t> taken_ended_;
};

}  // namespace pangolin
