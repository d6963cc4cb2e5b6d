#include "userspace/control_plane/websocket_message.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace pangolin {
namespace {

// Sorted. Types of Pangolin 1.22 (server/routers/ws/messageHandlers.ts and what its routers send), newt 1.15
// and olm 1.6.
constexpr auto known_types = std::to_array<std::string_view>({
    "error",
    "newt/access-log",
    "newt/blueprint/apply",
    "newt/blueprint/results",
    "newt/browsergateway/add",
    "newt/browsergateway/remove",
    "newt/disconnecting",
    "newt/healthcheck/add",
    "newt/healthcheck/remove",
    "newt/healthcheck/status",
    "newt/healthcheck/status/request",
    "newt/pam/connection",
    "newt/ping",
    "newt/ping/exitNodes",
    "newt/ping/request",
    "newt/receive-bandwidth",
    "newt/request-log",
    "newt/socket/check",
    "newt/socket/containers",
    "newt/socket/fetch",
    "newt/socket/status",
    "newt/sync",
    "newt/tcp/add",
    "newt/tcp/remove",
    "newt/terminate",
    "newt/udp/add",
    "newt/udp/remove",
    "newt/wg/connect",
    "newt/wg/get-config",
    "newt/wg/peer/add",
    "newt/wg/peer/remove",
    "newt/wg/peer/update",
    "newt/wg/receive-config",
    "newt/wg/reconnect",
    "newt/wg/register",
    "newt/wg/restart",
    "newt/wg/subnets/add",
    "newt/wg/subnets/remove",
    "newt/wg/subnets/update",
    "newt/wg/targets/add",
    "newt/wg/targets/remove",
    "newt/wg/targets/update",
    "newt/wg/terminate",
    "olm/disconnecting",
    "olm/error",
    "olm/ping",
    "olm/ping/request",
    "olm/sync",
    "olm/terminate",
    "olm/wg/connect",
    "olm/wg/local",
    "olm/wg/peer/add",
    "olm/wg/peer/chain/cancel",
    "olm/wg/peer/holepunch/site/add",
    "olm/wg/peer/relay",
    "olm/wg/peer/remove",
    "olm/wg/peer/unrelay",
    "olm/wg/peer/update",
    "olm/wg/register",
    "olm/wg/relay",
    "olm/wg/server/peer/add",
    "olm/wg/server/peer/init",
    "olm/wg/unlocal",
    "olm/wg/unrelay",
    "pong",
    "remoteExitNode/peers/add",
    "remoteExitNode/peers/remove",
    "remoteExitNode/ping",
    "remoteExitNode/register",
    "remoteExitNode/update-destinations",
    "remoteExitNode/update-proxy-mapping",
    "ws/round-trip/complete",
});
static_assert(std::ranges::is_sorted(known_types));

constexpr std::string_view other_type = "other";
constexpr std::string_view compressed_type = "compressed";

// The longest type, its key and what may stand around them, several times over.
constexpr std::size_t inflated_limit = 256;

// A reader of JSON's beginning. Each step says whether it was possible; `cut_off` is set where it was not for
// want of text.
struct Beginning {
    std::string_view rest;
    bool cut_off = false;

    bool take(char expected) {
        rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
        cut_off = rest.empty();
        if (!rest.starts_with(expected))
            return false;
        rest.remove_prefix(1);
        return true;
    }

    // A string without escapes.
    bool take_string(std::string_view& value) {
        if (!take('"'))
            return false;
        const std::size_t end = rest.find_first_of("\"\\");
        cut_off = end == std::string_view::npos;
        if (cut_off || rest[end] != '"')
            return false;
        value = rest.substr(0, end);
        rest.remove_prefix(end + 1);
        return true;
    }
};

std::string_view known(std::string_view type) {
    const auto found = std::ranges::lower_bound(known_types, type);
    return found != known_types.end() && *found == type ? *found : std::string_view{};
}

std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string_view type_of_text(std::string_view json) {
    const std::string_view type = known(first_type(json).value_or(""));
    return type.empty() ? other_type : type;
}

// RFC 1952, section 2.3.1; also when no more than the first byte is there.
bool is_gzip(std::span<const std::byte> start) {
    constexpr std::string_view magic = "\x1f\x8b";
    return !start.empty() && as_text(start).starts_with(magic.substr(0, start.size()));
}

std::string_view type_of_compressed(std::span<const std::byte> start, Compression compression) {
    std::array<char, inflated_limit> inflated{};
    const std::string_view json(inflated.data(), inflate_start(start, compression, inflated));
    std::string_view type = compressed_type;
    // Pangolin knows nothing of the extension: what it compressed itself may be compressed again.
    if (compression == Compression::deflate && is_gzip(std::as_bytes(std::span(json))))
        type = type_of_compressed(std::as_bytes(std::span(json)), Compression::gzip);
    else if (first_type(json))
        type = type_of_text(json);
    explicit_bzero(inflated.data(), inflated.size());
    return type;
}

// zlib's memory for one message. It holds what was inflated, so it is wiped; on the stack, since it is wanted
// for each message and for a moment only.
class InflateMemory {
  public:
    InflateMemory() = default;
    InflateMemory(const InflateMemory&) = delete;
    InflateMemory& operator=(const InflateMemory&) = delete;
    ~InflateMemory() { explicit_bzero(memory_.data(), memory_.size()); }

    static voidpf allocate(voidpf self, uInt items, uInt size) {
        return static_cast<InflateMemory*>(self)->take(std::size_t{items} * size);
    }
    static void release(voidpf, voidpf) {}

  private:
    void* take(std::size_t size) {
        constexpr std::size_t alignment = alignof(std::max_align_t);
        size = (size + alignment - 1) / alignment * alignment;
        if (size > memory_.size() - used_)
            return Z_NULL;
        void* const taken = memory_.data() + used_;
        used_ += size;
        return taken;
    }

    // zlib's manual (zconf.h): about 7 KB and the window of 32 KB.
    alignas(std::max_align_t) std::array<std::byte, std::size_t{48} * 1024> memory_;
    std::size_t used_ = 0;
};

// What zlib copied may be left where its functions had their frames: the dynamic linker saves the vector
// registers there when zlib calls something for the first time.
[[gnu::noinline]] void wipe_stack_below() {
    std::array<std::byte, std::size_t{16} * 1024> frames;
    explicit_bzero(frames.data(), frames.size());
}

}  // namespace

std::optional<std::string_view> first_type(std::string_view json) {
    Beginning beginning{json};
    std::string_view key;
    std::string_view value;
    if (beginning.take('{') && beginning.take_string(key) && key == "type" && beginning.take(':') &&
        beginning.take_string(value))
        return value;
    return beginning.cut_off ? std::nullopt : std::optional<std::string_view>("");
}

std::size_t inflate_start(std::span<const std::byte> compressed, Compression compression,
                          std::span<char> inflated) {
    InflateMemory memory;
    z_stream state{};
    state.zalloc = InflateMemory::allocate;
    state.zfree = InflateMemory::release;
    state.opaque = &memory;
    // zlib's manual, inflateInit2(): 15 + 16 for a gzip header, negative for none.
    constexpr int gzip_window = 15 + 16;
    constexpr int raw_window = -15;
    if (inflateInit2(&state, compression == Compression::gzip ? gzip_window : raw_window) != Z_OK)
        return 0;
    // zlib does not write to its input; its interface is older than const.
    state.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(compressed.data()));
    state.avail_in = static_cast<uInt>(compressed.size());
    state.next_out = reinterpret_cast<Bytef*>(inflated.data());
    state.avail_out = static_cast<uInt>(inflated.size());
    // Whatever it says, what it has written is right.
    inflate(&state, Z_SYNC_FLUSH);
    inflateEnd(&state);
    wipe_stack_below();
    return inflated.size() - state.avail_out;
}

std::string_view message_type(const WebSocketFrame& frame) {
    switch (frame.opcode) {
        case WebSocketOpcode::continuation:
            return {};
        case WebSocketOpcode::close:
            return "ws_close";
        case WebSocketOpcode::ping:
            return "ws_ping";
        case WebSocketOpcode::pong:
            return "ws_pong";
        case WebSocketOpcode::text:
        case WebSocketOpcode::binary:
            break;
        default:
            return other_type;
    }
    if (frame.compressed)
        return type_of_compressed(frame.start, Compression::deflate);
    if (frame.opcode == WebSocketOpcode::binary && is_gzip(frame.start))
        return type_of_compressed(frame.start, Compression::gzip);
    return type_of_text(as_text(frame.start));
}

}  // namespace pangolin
