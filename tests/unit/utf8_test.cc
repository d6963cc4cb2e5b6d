#include "userspace/utf8.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

TEST(Utf8, MalformedBytesAreReplacedOneByOne) {
    struct Row {
        std::string_view text;
        std::string_view expected;
    };
    const Row rows[] = {
        {"plain", "plain"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                                  // overlong '/'
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                  // surrogate
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // beyond U+10FFFF
        {"\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                  // overlong U+07FF
        {"\x80", "\xef\xbf\xbd"},                                                  // no lead byte
        {"a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},                                // cut off
        {std::string_view("a\0b", 3),
         "a\xef\xbf\xbd"
         "b"},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(valid_utf8(row.text), row.expected);
        EXPECT_EQ(is_utf8(row.text), row.text == row.expected);
        EXPECT_TRUE(is_utf8(valid_utf8(row.text)));
    }
}

TEST(Utf8, SequenceLengthIsOfTheFirstCharacter) {
    EXPECT_EQ(utf8_sequence_length("ab"), 1U);
    EXPECT_EQ(utf8_sequence_length("éa"), 2U);
    EXPECT_EQ(utf8_sequence_length("漢a"), 3U);
    EXPECT_EQ(utf8_sequence_length("😀a"), 4U);
    EXPECT_EQ(utf8_sequence_length(""), 0U);
    EXPECT_EQ(utf8_sequence_length("\xc0\x80"), 0U);
}

TEST(Utf8, ControlLengthIsOfTheFirstCharacter) {
    for (const std::string_view one :
         {std::string_view("\0a", 2), std::string_view("\x1b["), std::string_view("\x7f")})
        EXPECT_EQ(control_length(one), 1U);
    EXPECT_EQ(control_length("\xc2\x80"), 2U);
    EXPECT_EQ(control_length("\xc2\x9f["), 2U);
    for (const std::string_view none : {"", "a", " ", "\xc2\xa0", "\xc2", "\x9b", "\xc3\x9b"})
        EXPECT_EQ(control_length(none), 0U);
}

}  // namespace
}  // namespace pangolin
