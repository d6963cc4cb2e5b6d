#include "userspace/target_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pangolin::test {
namespace {

using testing::ElementsAre;

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

constexpr std::uint8_t here = 1;
constexpr std::uint8_t elsewhere = 2;

Site site(const char* id, SiteType type, const char* tunnel = "", std::uint8_t exit_node = 0) {
    Site result;
    result.site_id = id;
    result.type = type;
    if (*tunnel != '\0')
        result.tunnel_address = IpAddress::parse(tunnel).value();
    if (exit_node != 0)
        result.exit_node_public_key = key(exit_node);
    return result;
}

// "udp" in its name makes a resource one.
Resource resource(const char* id, bool enabled = true) {
    Resource result;
    result.resource_id = id;
    result.protocol = std::string_view(id).contains("udp") ? "udp" : "http";
    result.enabled = enabled;
    return result;
}

Target target(std::uint32_t of, std::optional<std::uint32_t> at, const char* host, std::uint16_t port,
              bool enabled = true) {
    Target result;
    result.resource = of;
    result.site = at;
    result.dialled = TargetAddress::make(host, port);
    result.enabled = enabled;
    return result;
}

std::vector<std::string> described(const std::vector<DialledTarget>& targets) {
    std::vector<std::string> result;
    for (const DialledTarget& each : targets)
        result.push_back(TargetAddress::make(each.dialled.address, each.dialled.port).to_string() +
                         (each.dialled.protocol == TargetProtocol::udp ? "/udp" : "/tcp") + " " +
                         (each.site != nullptr ? each.site->site_id : "?") + " " +
                         (each.resource != nullptr ? each.resource->resource_id : "relay"));
    return result;
}

TEST(TargetIndex, EachAddressPortAndProtocolOnceForTheFirstEnabledResource) {
    SiteDirectory directory;
    directory.sites = {site("a", SiteType::newt), site("b", SiteType::wireguard)};
    directory.resources = {resource("api"), resource("disabled", false), resource("game-udp"),
                           resource("web")};
    directory.targets = {
        target(0, 0, "10.0.0.1", 80, false),  // api's own is switched off
        target(0, 0, "10.0.0.1", 81),        target(1, 0, "10.0.0.1", 80), target(1, 1, "10.0.0.2", 80),
        target(2, 0, "10.0.0.1", 81),        target(3, 0, "10.0.0.1", 80), target(3, 0, "10.0.0.1", 81),
        target(3, 1, "fd00::2", 80),
    };
    EXPECT_THAT(described(TargetIndex(directory).in_tunnels(key(here))),
                ElementsAre("10.0.0.1:80/tcp a web", "10.0.0.1:81/tcp a api", "10.0.0.1:81/udp a game-udp",
                            "10.0.0.2:80/tcp b disabled", "[fd00::2]:80/tcp b web"));
}

TEST(TargetIndex, TunnelsAreThoseOfTheInterfaceAndLocalSitesHaveNone) {
    SiteDirectory directory;
    directory.sites = {site("a", SiteType::newt, "", here), site("b", SiteType::newt, "", elsewhere),
                       site("c", SiteType::newt), site("l", SiteType::local)};
    directory.resources = {resource("r"), resource("udp")};
    for (std::uint32_t at = 0; at < 4; ++at)
        directory.targets.push_back(target(0, at, "10.0.0.1", static_cast<std::uint16_t>(80 + at / 2)));
    directory.targets.push_back(target(0, std::nullopt, "10.0.0.9", 80));
    directory.targets.push_back(target(0, 3, "a-name", 80));
    directory.targets.push_back(target(1, 3, "10.0.0.1", 90));
    const TargetIndex index(directory);
    EXPECT_THAT(described(index.in_tunnels(key(here))),
                ElementsAre("10.0.0.1:80/tcp a r", "10.0.0.1:81/tcp c r", "10.0.0.9:80/tcp ? r"));
    EXPECT_THAT(described(index.in_tunnels(key(elsewhere))),
                ElementsAre("10.0.0.1:80/tcp b r", "10.0.0.1:81/tcp c r", "10.0.0.9:80/tcp ? r"));
    EXPECT_THAT(described(index.of_local_sites()), ElementsAre("10.0.0.1:81/tcp l r"));
}

TEST(TargetIndex, ANameIsAllItsAddresses) {
    SiteDirectory directory;
    directory.sites = {site("l", SiteType::local), site("w", SiteType::wireguard)};
    directory.resources = {resource("r"), resource("s")};
    directory.targets = {target(0, 0, "nginx", 80), target(1, 0, "10.0.0.2", 80), target(1, 1, "nginx", 81)};
    directory.targets[0].resolved = {IpAddress::parse("10.0.0.1").value(),
                                     IpAddress::parse("10.0.0.2").value()};
    directory.targets[2].resolved = {IpAddress::parse("fd00::1").value()};
    const TargetIndex index(directory);
    EXPECT_THAT(described(index.of_local_sites()), ElementsAre("10.0.0.1:80/tcp l r", "10.0.0.2:80/tcp l r"));
    EXPECT_THAT(described(index.in_tunnels(key(here))), ElementsAre("[fd00::1]:81/tcp w s"));
}

TEST(TargetIndex, RelayedTrafficIsNoResources) {
    SiteDirectory directory;
    directory.sites = {site("a", SiteType::newt, "10.0.0.1"), site("b", SiteType::newt, "10.0.0.2"),
                       site("c", SiteType::newt)};
    for (Site& each : directory.sites)
        each.listen_port = 50000;
    directory.sites[1].listen_port.reset();
    directory.resources = {resource("udp")};
    directory.targets = {target(0, 0, "10.0.0.1", 50000), target(0, 0, "10.0.0.1", 50001)};
    EXPECT_THAT(described(TargetIndex(directory).in_tunnels(key(here))),
                ElementsAre("10.0.0.1:50000/udp a relay", "10.0.0.1:50001/udp a udp"));
}

}  // namespace
}  // namespace pangolin::test
