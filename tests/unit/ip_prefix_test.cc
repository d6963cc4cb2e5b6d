#include "loader/base/ip_prefix.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

struct Row {
    const char* text;
    // As IpPrefix::to_string() writes it; null: refused.
    const char* expected;
};

TEST(IpPrefix, ParsesAndWrites) {
    const Row rows[] = {
        {"100.89.128.4/30", "100.89.128.4/30"},
        {"100.89.128.7/30", "100.89.128.4/30"},
        {"10.0.0.1", "10.0.0.1/32"},
        {"255.255.255.255/0", "0.0.0.0/0"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"fd00::1/64", "fd00::/64"},
        {"fd00::ffff:ffff/97", "fd00::8000:0/97"},
        {"::/0", "::/0"},
        {"2001:db8::1", "2001:db8::1/128"},
        {"", nullptr},
        {"/24", nullptr},
        {"10.0.0.1/", nullptr},
        {"10.0.0.1/33", nullptr},
        {"10.0.0.1/-1", nullptr},
        {"10.0.0.1/+8", nullptr},
        {"10.0.0.1/8 ", nullptr},
        {" 10.0.0.1/8", nullptr},
        {"10.0.0.1/8/8", nullptr},
        {"10.0.0.1/99999999999", nullptr},
        {"10.0.0/8", nullptr},
        {"010.0.0.1", nullptr},
        {"fd00::/129", nullptr},
        {"fd00::1%eth0", nullptr},
        {"[fd00::1]", nullptr},
        {"example.com", nullptr},
    };
    for (const Row& row : rows) {
        const auto prefix = IpPrefix::parse(row.text);
        EXPECT_EQ(prefix.has_value(), row.expected != nullptr) << row.text;
        if (!prefix) {
            EXPECT_FALSE(prefix.error().hint.empty()) << row.text;
        } else if (row.expected != nullptr) {
            EXPECT_EQ(prefix->to_string(), row.expected);
        }
    }
}

struct ContainsRow {
    const char* outer;
    const char* inner;
    bool contained;
};

TEST(IpPrefix, ContainsNestedPrefixesOfItsFamilyOnly) {
    const ContainsRow rows[] = {
        {"10.0.0.0/8", "10.255.0.0/16", true},
        {"10.0.0.0/8", "10.0.0.0/8", true},
        {"10.0.0.0/8", "10.0.0.0/7", false},
        {"10.0.0.0/8", "11.0.0.0/16", false},
        {"0.0.0.0/0", "203.0.113.9/32", true},
        {"0.0.0.0/0", "::1/128", false},
        {"::/0", "2001:db8::/32", true},
        {"::/0", "10.0.0.1/32", false},
        // IPv4 is kept in mapped form, which must not leak out.
        {"::ffff:0:0/96", "10.0.0.1/32", false},
        {"fd00::/63", "fd00:0:0:1::/64", true},
        {"fd00::/65", "fd00::8000:0:0:0/65", false},
    };
    for (const auto& row : rows)
        EXPECT_EQ(IpPrefix::parse(row.outer).value().contains(IpPrefix::parse(row.inner).value()),
                  row.contained)
            << row.outer << " " << row.inner;
}

}  // namespace
}  // namespace pangolin
