#include "userspace/metadata/text.h"

#include <gtest/gtest.h>

#include <array>

namespace pangolin {
namespace {

using namespace std::string_view_literals;

TEST(Text, NearestFindsWhatWasMeant) {
    static constexpr std::array words{"enabled"sv,   "port"sv,    "listen"sv,
                                      "wireguard"sv, "site_id"sv, "public_key"sv};
    struct Row {
        std::string_view text;
        std::string_view expected;
    };
    const Row rows[] = {
        {"prot", "port"},
        {"ports", "port"},
        {"por", "port"},
        {"enable", "enabled"},
        {"lsiten", "listen"},
        {"wiregaurd", "wireguard"},
        {"siteId", "site_id"},
        {"site-id", "site_id"},
        {"PORT", "port"},
        {"publickey", "public_key"},
        {"", ""},
        {"x", ""},
        {"database", ""},
        {"p", ""},
    };
    for (const Row& row : rows)
        EXPECT_EQ(nearest(row.text, words).value_or(""), row.expected) << row.text;
    EXPECT_FALSE(nearest(std::string(100000, 'p'), words));
    EXPECT_FALSE(nearest("port", {}));
}

TEST(Text, SuggestionListsWhatIsValid) {
    static constexpr std::array words{"port"sv, "listen"sv};
    EXPECT_EQ(suggestion("prot", words, "keys"), "Did you mean 'port'? Valid keys are port, listen.");
    EXPECT_EQ(suggestion("zzz", words, "keys"), "Valid keys are port, listen.");
}

TEST(Text, EscapedDoesNothingToATerminal) {
    EXPECT_EQ(escaped("h\xc3\xa9llo \\"), "h\xc3\xa9llo \\");
    EXPECT_EQ(escaped("a\r\n\x1b]0;x\x07\x7f"), R"(a\x0d\x0a\x1b]0;x\x07\x7f)");
    EXPECT_EQ(escaped("\xc2\x9b"
                      "2J\xc2\xa0"),
              "\\xc2\\x9b2J\xc2\xa0");
    EXPECT_EQ(escaped("\x9b"), R"(\x9b)");
    EXPECT_EQ(escaped(std::string(1000, 'x')).size(), 1000U);
}

TEST(Text, InQuotesIsOneHarmlessLine) {
    EXPECT_EQ(in_quotes("héllo"), "'héllo'");
    EXPECT_EQ(in_quotes("a\nb\x1b[31m\x7f"), "'a\\x0ab\\x1b[31m\\x7f'");
    EXPECT_EQ(in_quotes("\xff\xc3"), "'\\xff\\xc3'");
    EXPECT_EQ(in_quotes(std::string_view("\0", 1)), "'\\x00'");
    EXPECT_LT(in_quotes(std::string(1000, 'x')).size(), 80U);
}

}  // namespace
}  // namespace pangolin
