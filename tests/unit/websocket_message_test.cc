// A message's type from its first bytes, cut at every byte, plain and compressed in each way that happens.
#include "userspace/control_plane/websocket_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>
#include <vector>

#include "bpf/shared/http.h"
#include "tests/support/random_seed.h"

namespace pangolin {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

// As the kernel hands it out: no more than HTTP_FRAME_BYTES.
std::string_view type_of(std::string_view payload, WebSocketOpcode opcode = WebSocketOpcode::text,
                         bool compressed = false) {
    return message_type(
        {.opcode = opcode, .compressed = compressed, .start = bytes(payload.substr(0, HTTP_FRAME_BYTES))});
}

// One end of a connection, or a file: what zlib makes of one text after the other.
class Compressor {
  public:
    explicit Compressor(Compression compression) {
        constexpr int gzip_window = 15 + 16;
        constexpr int raw_window = -15;
        deflateInit2(&state_, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                     compression == Compression::gzip ? gzip_window : raw_window, 8, Z_DEFAULT_STRATEGY);
    }
    Compressor(const Compressor&) = delete;
    Compressor& operator=(const Compressor&) = delete;
    ~Compressor() { deflateEnd(&state_); }

    std::string file(std::string_view text) { return run(text, Z_FINISH); }
    // RFC 7692, section 7.2.1: without the four bytes of the empty block at the end.
    std::string message(std::string_view text) {
        std::string compressed = run(text, Z_SYNC_FLUSH);
        compressed.resize(compressed.size() - 4);
        return compressed;
    }

  private:
    std::string run(std::string_view text, int flush) {
        std::string output(text.size() + 200, '\0');
        state_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
        state_.avail_in = static_cast<uInt>(text.size());
        state_.next_out = reinterpret_cast<Bytef*>(output.data());
        state_.avail_out = static_cast<uInt>(output.size());
        deflate(&state_, flush);
        output.resize(output.size() - state_.avail_out);
        return output;
    }

    z_stream state_{};
};

std::string gzip(std::string_view text) {
    return Compressor(Compression::gzip).file(text);
}

TEST(WebSocketMessage, ReadsTheTypeOfText) {
    struct Case {
        std::string_view payload;
        std::string_view type;
    };
    constexpr Case cases[] = {
        {R"({"type":"newt/ping","data":{}})", "newt/ping"},
        {R"({"type":"pong"})", "pong"},
        {" {\t\"type\" : \n\"error\" , \"data\": 1}", "error"},
        {R"({"type":"newt/wg/register","data":{"publicKey":)", "newt/wg/register"},
        {R"({"type":"ws/round-trip/complete"})", "ws/round-trip/complete"},
        // Not one of theirs, whatever it looks like.
        {R"({"type":"newt/pin"})", "other"},
        {R"({"type":"newt/pingg"})", "other"},
        {R"({"type":"NEWT/PING"})", "other"},
        {R"({"type":""})", "other"},
        {R"({"type":5})", "other"},
        {R"({"type":"newt\/ping"})", "other"},
        {R"({"data":{"type":"newt/ping"},"type":"newt/ping"})", "other"},
        {R"({"Type":"newt/ping"})", "other"},
        {R"(["type","newt/ping"])", "other"},
        {R"("type":"newt/ping")", "other"},
        {"", "other"},
        {"{", "other"},
        {"hello", "other"},
    };
    for (const Case& each : cases) {
        SCOPED_TRACE(each.payload);
        EXPECT_EQ(type_of(each.payload), each.type);
        EXPECT_EQ(type_of(each.payload, WebSocketOpcode::binary), each.type);
    }
}

TEST(WebSocketMessage, TextCutAtEveryByte) {
    const std::string message = R"({"type":"newt/wg/connect","data":{"endpoint":"x"}})";
    const std::size_t needed = message.find("\",\"data") + 1;
    for (std::size_t size = 0; size <= message.size(); ++size) {
        SCOPED_TRACE(size);
        EXPECT_EQ(type_of(message.substr(0, size)), size < needed ? "other" : "newt/wg/connect");
    }
}

TEST(WebSocketMessage, NamesFramesThatAreNoMessages) {
    EXPECT_EQ(type_of(R"({"type":"pong"})", WebSocketOpcode::continuation), "");
    EXPECT_EQ(type_of("\x03\xe8", WebSocketOpcode::close), "ws_close");
    EXPECT_EQ(type_of("", WebSocketOpcode::ping), "ws_ping");
    EXPECT_EQ(type_of(R"({"type":"pong"})", WebSocketOpcode::pong), "ws_pong");
    EXPECT_EQ(type_of(R"({"type":"pong"})", static_cast<WebSocketOpcode>(3)), "other");
    EXPECT_EQ(type_of(R"({"type":"pong"})", static_cast<WebSocketOpcode>(200)), "other");
}

// What Pangolin sends in gzip is long: many targets, keys, addresses.
std::string long_message(std::string_view type) {
    std::string message = "{\"type\":\"" + std::string(type) + "\",\"data\":{\"targets\":[";
    std::mt19937 random(7);
    for (int target = 0; target < 200; ++target)
        message += "\"" + std::to_string(random()) + ":10." + std::to_string(random() % 256) + ".0.1:80\",";
    return message + "\"\"]}}";
}

TEST(WebSocketMessage, InflatesGzip) {
    for (const std::string_view type :
         {"newt/wg/connect", "newt/sync", "newt/healthcheck/add", "newt/tcp/add"}) {
        SCOPED_TRACE(type);
        EXPECT_EQ(type_of(gzip(long_message(type)), WebSocketOpcode::binary), type);
        EXPECT_EQ(type_of(gzip("{\"type\":\"" + std::string(type) + "\"}"), WebSocketOpcode::binary), type);
    }
    EXPECT_EQ(type_of(gzip(R"({"data":1})"), WebSocketOpcode::binary), "other");
    EXPECT_EQ(type_of(gzip("no JSON"), WebSocketOpcode::binary), "other");
    EXPECT_EQ(type_of(gzip(""), WebSocketOpcode::binary), "compressed");
    EXPECT_EQ(type_of("\x1f", WebSocketOpcode::binary), "compressed");
    // Text is never gzip.
    EXPECT_EQ(type_of(gzip(R"({"type":"pong"})")), "other");
}

TEST(WebSocketMessage, GzipCutAtEveryByteIsTheTypeOrUnknown) {
    const std::string message = gzip(long_message("newt/sync"));
    bool known = false;
    for (std::size_t size = 2; size <= HTTP_FRAME_BYTES; ++size) {
        SCOPED_TRACE(size);
        const std::string_view type = type_of(message.substr(0, size), WebSocketOpcode::binary);
        EXPECT_EQ(type, known || type == "newt/sync" ? "newt/sync" : "compressed");
        known = known || type == "newt/sync";
    }
    EXPECT_TRUE(known);
}

TEST(WebSocketMessage, InflatesThePerMessageExtension) {
    // Without context takeover each message stands for itself.
    for (int message = 0; message < 3; ++message)
        EXPECT_EQ(type_of(Compressor(Compression::deflate).message(R"({"type":"newt/ping","data":{}})"),
                          WebSocketOpcode::text, true),
                  "newt/ping");
    EXPECT_EQ(type_of(Compressor(Compression::deflate).message(gzip(R"({"type":"newt/sync"})")),
                      WebSocketOpcode::binary, true),
              "newt/sync");
    // With it the first does, and later ones refer to it.
    Compressor compressor(Compression::deflate);
    EXPECT_EQ(type_of(compressor.message(R"({"type":"newt/ping","data":{}})"), WebSocketOpcode::text, true),
              "newt/ping");
    EXPECT_EQ(type_of(compressor.message(R"({"type":"newt/ping","data":{}})"), WebSocketOpcode::text, true),
              "compressed");
}

TEST(WebSocketMessage, ExtensionCutAtEveryByteIsTheTypeOrUnknown) {
    const std::string message = Compressor(Compression::deflate).message(long_message("newt/wg/connect"));
    bool known = false;
    for (std::size_t size = 0; size <= HTTP_FRAME_BYTES; ++size) {
        SCOPED_TRACE(size);
        const std::string_view type = type_of(message.substr(0, size), WebSocketOpcode::text, true);
        EXPECT_EQ(type, known || type == "newt/wg/connect" ? "newt/wg/connect" : "compressed");
        known = known || type == "newt/wg/connect";
    }
    EXPECT_TRUE(known);
}

TEST(InflateStart, WritesNoMoreThanThereIsRoomFor) {
    // Eight megabytes in eight kilobytes.
    const std::string bomb = gzip(std::string(8'000'000, 'a'));
    std::string room(300, '#');
    EXPECT_EQ(inflate_start(bytes(bomb), Compression::gzip, std::span(room).first(256)), 256U);
    EXPECT_EQ(room, std::string(256, 'a') + std::string(44, '#'));
}

TEST(InflateStart, WhatComesOutIsTheBeginning) {
    const std::string text = long_message("newt/sync");
    const std::string compressed = gzip(text);
    for (std::size_t size = 0; size <= compressed.size(); ++size) {
        std::string room(text.size() + 10, '\0');
        room.resize(inflate_start(bytes(compressed).first(size), Compression::gzip, room));
        ASSERT_TRUE(text.starts_with(room)) << size;
    }
}

TEST(WebSocketMessage, RandomBytesAreNoKnownType) {
    std::mt19937 random(test::random_seed());
    for (int round = 0; round < 20'000; ++round) {
        std::string payload(random() % 200, '\0');
        for (char& byte : payload)
            byte = static_cast<char>(random());
        if (random() % 2 == 0)
            payload.insert(0, "\x1f\x8b\x08");
        const auto type = type_of(payload, static_cast<WebSocketOpcode>(1 + random() % 2), random() % 2 == 0);
        ASSERT_TRUE(type == "other" || type == "compressed") << type;
    }
}

}  // namespace
}  // namespace pangolin
