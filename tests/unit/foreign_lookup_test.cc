#include "userspace/metadata/foreign_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pangolin::test {
namespace {

using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

std::vector<std::pair<std::string, std::vector<std::string>>> described(const AddressesByName& found) {
    std::vector<std::pair<std::string, std::vector<std::string>>> result;
    for (const auto& [name, addresses] : found) {
        auto& texts = result.emplace_back(name, std::vector<std::string>()).second;
        for (const IpAddress& address : addresses)
            texts.push_back(address.to_string());
    }
    return result;
}

TEST(ForeignLookup, HostsHaveSeveralNamesAndCommentsAndNoCase) {
    const char* const hosts =
        "# 10.0.0.9 nginx\n"
        "127.0.0.1\tlocalhost\n"
        "10.0.0.1   NGINX nginx.lan # 10.0.0.2 other\n"
        "fd00::1 nginx\r\n"
        "10.0.0.1 nginx\n"
        "not-an-address nginx\n"
        "\n"
        "10.0.0.3 host.docker.internal";
    EXPECT_THAT(described(read_hosts(hosts, {"nginx", "host.docker.internal", "other"})),
                UnorderedElementsAre(Pair("host.docker.internal", ElementsAre("10.0.0.3")),
                                     Pair("nginx", ElementsAre("10.0.0.1", "fd00::1"))));
}

}  // namespace
}  // namespace pangolin::test
