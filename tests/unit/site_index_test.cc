#include "userspace/site_index.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

Site site(std::string id, const std::string& tunnel) {
    Site result;
    result.site_id = std::move(id);
    if (!tunnel.empty())
        result.tunnel.push_back(IpPrefix::parse(tunnel).value());
    return result;
}

WireGuardPeer peer(std::uint8_t number, const std::string& allowed_ip) {
    WireGuardPeer result;
    result.public_key = key(number);
    if (!allowed_ip.empty())
        result.allowed_ips.push_back(IpPrefix::parse(allowed_ip).value());
    return result;
}

SiteIndex index_of(std::vector<Site> sites) {
    return SiteIndex(std::make_shared<const SiteDirectory>(SiteDirectory{std::move(sites), {}, {}, {}}));
}

constexpr std::uint8_t this_node = 200;
constexpr std::uint8_t other_node = 201;

TEST(SiteIndex, FindsByKeyBeforeTunnel) {
    Site by_key = site("a", "");
    by_key.public_key = key(1);
    const SiteIndex index = index_of({by_key, site("b", "100.89.128.4/30")});
    EXPECT_EQ(index.find(peer(1, "100.89.128.4/30"), key(this_node)).site->site_id, "a");
    EXPECT_EQ(index.find(peer(2, "100.89.128.4/30"), key(this_node)).site->site_id, "b");
}

TEST(SiteIndex, ANewKeyOfAKnownTunnelIsTheSameSite) {
    Site known = site("a", "100.89.128.4/30");
    known.public_key = key(1);
    const SiteIndex index = index_of({known});
    EXPECT_EQ(index.find(peer(9, "100.89.128.4/30"), key(this_node)).site->site_id, "a");
    EXPECT_EQ(index.find(peer(9, "100.89.128.5/32"), key(this_node)).site->site_id, "a");
    EXPECT_EQ(index.find(peer(9, "100.89.128.8/30"), key(this_node)).site, nullptr);
    EXPECT_EQ(index.find(peer(9, ""), key(this_node)).site, nullptr);
}

TEST(SiteIndex, ASiteOfAnotherExitNodeIsNotMatchedByTunnel) {
    Site elsewhere = site("a", "100.89.128.4/30");
    elsewhere.exit_node_public_key = key(other_node);
    const SiteIndex index = index_of({elsewhere});
    EXPECT_EQ(index.find(peer(9, "100.89.128.4/30"), key(this_node)).site, nullptr);
    EXPECT_NE(index.find(peer(9, "100.89.128.4/30"), key(other_node)).site, nullptr);
}

TEST(SiteIndex, ClientsAreFoundByKeyAndTunnelLikeSites) {
    Client by_key;
    by_key.client_id = "laptop";
    by_key.public_key = key(1);
    Client by_tunnel;
    by_tunnel.client_id = "phone";
    by_tunnel.tunnel = IpPrefix::parse("100.89.128.8/30").value();
    Client elsewhere = by_tunnel;
    elsewhere.tunnel = IpPrefix::parse("100.89.128.12/30").value();
    elsewhere.exit_node_public_key = key(other_node);
    const SiteIndex index(std::make_shared<const SiteDirectory>(
        SiteDirectory{{site("a", "100.89.128.4/30")}, {}, {}, {by_key, by_tunnel, elsewhere}}));
    struct Case {
        std::uint8_t key;
        const char* allowed_ip;
        const char* owner;
    };
    const Case cases[] = {
        {1, "100.89.128.4/30", "client laptop"}, {1, "", "client laptop"},
        {9, "100.89.128.4/30", "site a"},        {9, "100.89.128.8/30", "client phone"},
        {9, "100.89.128.12/30", "nobody"},       {9, "100.89.128.16/30", "nobody"},
    };
    for (const Case& each : cases) {
        const PeerOwner owner = index.find(peer(each.key, each.allowed_ip), key(this_node));
        EXPECT_EQ(owner.site != nullptr     ? "site " + owner.site->site_id
                  : owner.client != nullptr ? "client " + owner.client->client_id
                                            : "nobody",
                  each.owner)
            << each.allowed_ip;
    }
}

TEST(SiteIndex, KnowsWhetherThereAreSeveralExitNodes) {
    Site first = site("a", "");
    first.exit_node_public_key = key(this_node);
    Site second = site("b", "");
    second.exit_node_public_key = key(this_node);
    EXPECT_TRUE(index_of({first, second, site("c", "")}).single_exit_node());
    second.exit_node_public_key = key(other_node);
    EXPECT_FALSE(index_of({first, second}).single_exit_node());
}

}  // namespace
}  // namespace pangolin
