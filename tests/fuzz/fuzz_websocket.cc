// The beginnings of WebSocket frames, with what is unpacked of them. The first byte is the frame's.
#include <array>
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/must.h"
#include "userspace/control_plane/websocket_message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    if (size == 0)
        return 0;
    const std::span<const std::byte> payload(reinterpret_cast<const std::byte*>(data + 1), size - 1);
    const std::string_view type = message_type({.opcode = static_cast<WebSocketOpcode>(data[0] & 15),
                                                .compressed = (data[0] & 64) != 0,
                                                .start = payload});
    must(type.size() < 64 && type.find_first_of("\"\n\\") == std::string_view::npos);
    const std::string_view json(reinterpret_cast<const char*>(data + 1), size - 1);
    if (const auto first = first_type(json))
        must(first->size() <= json.size());
    std::array<char, 200> inflated{};
    for (const Compression compression : {Compression::gzip, Compression::deflate})
        must(inflate_start(payload, compression, inflated) <= inflated.size());
    return 0;
}
