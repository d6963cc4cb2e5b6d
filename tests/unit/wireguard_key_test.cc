#include "userspace/wireguard/key.h"

#include <gtest/gtest.h>

#include <random>

namespace pangolin {
namespace {

// RFC 7748 section 6.1: Alice's public key; base64 by an independent encoder.
constexpr std::string_view alice_hex = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
constexpr std::string_view alice_base64 = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

TEST(WireGuardKey, HexAndBase64NameTheSameKey) {
    const auto from_hex = WireGuardKey::from_hex(alice_hex);
    const auto from_base64 = WireGuardKey::from_base64(alice_base64);
    ASSERT_TRUE(from_hex);
    ASSERT_TRUE(from_base64);
    EXPECT_EQ(*from_hex, *from_base64);
    EXPECT_EQ(from_hex->to_string(), alice_base64);
    EXPECT_EQ(from_hex->bytes[0], 0x85);
    EXPECT_EQ(from_hex->bytes[31], 0x6a);
}

TEST(WireGuardKey, ExtremesSurviveTheirText) {
    const WireGuardKey zeros;
    EXPECT_EQ(zeros.to_string(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    WireGuardKey ones;
    ones.bytes.fill(0xff);
    EXPECT_EQ(ones.to_string(), "//////////////////////////////////////////8=");
    EXPECT_EQ(WireGuardKey::from_base64(ones.to_string()).value(), ones);
    EXPECT_EQ(WireGuardKey::from_hex(std::string(64, 'F')).value(), ones);
}

TEST(WireGuardKey, RandomKeysSurviveTheirText) {
    std::mt19937 random(1);
    for (int i = 0; i < 1000; ++i) {
        WireGuardKey key;
        for (auto& byte : key.bytes)
            byte = static_cast<std::uint8_t>(random());
        const auto again = WireGuardKey::from_base64(key.to_string());
        ASSERT_TRUE(again);
        ASSERT_EQ(*again, key);
    }
}

struct BadText {
    const char* description;
    std::string text;
};

TEST(WireGuardKey, RefusesWhatIsNoBase64Key) {
    const std::string good(alice_base64);
    const BadText rows[] = {
        {"empty", ""},
        {"too short", good.substr(1)},
        {"too long", good + "="},
        {"no padding", good.substr(0, 43) + "A"},
        {"padding in the middle", "=" + good.substr(1)},
        {"two paddings", good.substr(0, 42) + "=="},
        {"URL alphabet", "-" + good.substr(1)},
        {"space", " " + good.substr(1)},
        {"line break", good.substr(0, 43) + "\n"},
        {"NUL", std::string(1, '\0') + good.substr(1)},
        {"byte above 127", "\xff" + good.substr(1)},
        {"hexadecimal", std::string(alice_hex)},
        // "...mo=" and "...mp=" would be the same 32 bytes.
        {"bits to spare", good.substr(0, 42) + "p="},
    };
    for (const auto& row : rows) {
        const auto key = WireGuardKey::from_base64(row.text);
        ASSERT_FALSE(key) << row.description;
        EXPECT_FALSE(key.error().hint.empty()) << row.description;
    }
}

TEST(WireGuardKey, ErrorsDoNotRepeatTheText) {
    const auto key = WireGuardKey::from_base64("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk_");
    ASSERT_FALSE(key);
    EXPECT_EQ(key.error().message().find("yAnz"), std::string::npos);
}

TEST(WireGuardKey, RefusesWhatIsNoHexKey) {
    const std::string good(alice_hex);
    for (const std::string& text : {std::string(), good.substr(1), good + "0", "g" + good.substr(1),
                                    " " + good.substr(1), "0x" + good.substr(2), good.substr(0, 63) + "\n"})
        EXPECT_FALSE(WireGuardKey::from_hex(text)) << text;
}

}  // namespace
}  // namespace pangolin
