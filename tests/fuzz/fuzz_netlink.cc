// Messages of the kernel's answer to WG_CMD_GET_DEVICE: each input is cut into messages by the lengths in it.
#include <libmnl/libmnl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loader/netlink.h"
#include "tests/fuzz/must.h"
#include "userspace/wireguard/netlink_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    // Aligned as a receive buffer is.
    std::vector<std::uint32_t> buffer((size + 3) / 4);
    std::copy_n(data, size, reinterpret_cast<std::uint8_t*>(buffer.data()));
    static WireGuardDevice device;
    DeviceDump dump(device);
    int left = static_cast<int>(size);
    const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
    for (; is_whole(message, left); message = mnl_nlmsg_next(message, &left))
        if (!dump.add(*message))
            return 0;
    dump.finish();
    for (const WireGuardPeer& peer : device.peers)
        must(peer.allowed_ips.size() <= size && peer.last_handshake_ns >= 0);
    return 0;
}
