#include "loader/base/endpoint.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

TEST(Endpoint, ReadsBothFamilies) {
    EXPECT_EQ(Endpoint::parse("198.51.100.7:51820").value(),
              (Endpoint{IpAddress::parse("198.51.100.7").value(), 51820}));
    EXPECT_EQ(Endpoint::parse("[2001:db8::1]:1").value(),
              (Endpoint{IpAddress::parse("2001:db8::1").value(), 1}));
    EXPECT_EQ(Endpoint::parse("[fe80::1%eth0]:7").value(), Endpoint::parse("[fe80::1]:7").value());
}

TEST(Endpoint, AMappedAddressIsIpv4OnTheNetwork) {
    EXPECT_EQ(Endpoint::parse("[::ffff:198.51.100.7]:51820").value(),
              Endpoint::parse("198.51.100.7:51820").value());
}

TEST(Endpoint, WritesWhatItReads) {
    for (const std::string text : {"198.51.100.7:51820", "[2001:db8::1]:65535", "[::]:0"})
        EXPECT_EQ(Endpoint::parse(text).value().to_string(), text);
}

TEST(Endpoint, RefusesWhatIsNone) {
    for (const char* text :
         {"", ":", "198.51.100.7", "198.51.100.7:", "198.51.100.7:65536", "198.51.100.7:-1", "2001:db8::1",
          "[2001:db8::1:5", "[]:5", "[198.51.100.7", "a:5", "1.2.3.4:5 "})
        EXPECT_FALSE(Endpoint::parse(text)) << text;
}

}  // namespace
}  // namespace pangolin
