// The answer of a userspace WireGuard, from which no error repeats a value: some are private keys.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/must.h"
#include "userspace/wireguard/uapi_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    static WireGuardDevice device;
    const std::string_view answer(reinterpret_cast<const char*>(data), size);
    const auto parsed = parse_uapi(answer, device);
    must(parsed || parsed.error().message().find("5ec4e7") == std::string::npos);
    if (parsed)
        for (const WireGuardPeer& peer : device.peers)
            must(peer.last_handshake_ns >= 0);
    return 0;
}
