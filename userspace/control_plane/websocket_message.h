// What a message on Pangolin's WebSocket is, told from its first bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pangolin {

// RFC 6455, section 5.2.
enum class WebSocketOpcode : std::uint8_t {
    continuation = 0,
    text = 1,
    binary = 2,
    close = 8,
    ping = 9,
    pong = 10,
};

// The start of a frame.
struct WebSocketFrame {
    WebSocketOpcode opcode = WebSocketOpcode::text;
    // The first reserved bit: the message is compressed by permessage-deflate (RFC 7692, section 6).
    bool compressed = false;
    // Of the payload, unmasked; as many as were copied.
    std::span<const std::byte> start;
};

// Label `msg_type` of a message that begins with this frame: the value of "type", which Pangolin, newt and
// olm write first (server/routers/ws/ws.ts, newt's websocket/client.go), if it is one of theirs; else
// "other". A compressed message whose type cannot be read (its compression refers to an earlier message's
// content, or what was copied ends too soon) is "compressed". Control frames are "ws_close", "ws_ping" and
// "ws_pong". Empty for a continuation, which begins no message. The result lives as long as the program.
std::string_view message_type(const WebSocketFrame& frame);

// The value of the first key of an object that begins as `json` does, if that key is "type"; empty when it is
// another, when there is no object, and when there are escapes, which no type has. None when `json` ends
// before this can be told.
std::optional<std::string_view> first_type(std::string_view json);

enum class Compression : std::uint8_t { gzip, deflate };

// Writes the beginning of what `compressed` is the beginning of: as much as there is room for and as can be
// said before its end or its first fault. Returns how much that is. Nothing of it is left elsewhere.
std::size_t inflate_start(std::span<const std::byte> compressed, Compression compression,
                          std::span<char> inflated);

}  // namespace pangolin
