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

// File descriptors of the maps, and where open_handshakes is; all belong to a loaded skeleton that must
// outlive this. Not thread-safe.
class HandshakeMaps {
  public:
    HandshakeMaps() = default;
    HandshakeMaps(int handshakes, int ended, int counts, int losses, std::uint32_t* open_handshakes)
        : handshakes_(handshakes),
          ended_(ended),
          counts_(counts),
          losses_(losses),
          open_handshakes_(open_handshakes) {}

    // See WireGuardProbe.
    std::vector<handshake> take_handshakes();
    std::vector<HandshakeCount> take_counts();
    HandshakeLosses losses() const;

  private:
    struct CountKey {
        handshake_count_key key{};
        bool operator<(const CountKey& other) const;
    };
    struct Taken {
        std::uint64_t count = 0;
        std::chrono::steady_clock::time_point last_change;
    };

    void take_ended(std::vector<handshake>& taken);
    void take_unfinished(std::vector<handshake>& taken);

    int handshakes_ = -1;
    int ended_ = -1;
    int counts_ = -1;
    int losses_ = -1;
    std::uint32_t* open_handshakes_ = nullptr;
    // What take_counts() has returned of each element.
    std::map<CountKey, Taken> taken_;
};

}  // namespace pangolin
