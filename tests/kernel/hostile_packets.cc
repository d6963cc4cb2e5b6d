#include "tests/kernel/hostile_packets.h"

#include "tests/support/packet_builder.h"

namespace pangolin::test {
namespace {

// Source and destination differ in the first byte, which is what tells slots apart in the tests.
Ipv4Fields v4(std::uint8_t protocol, std::uint8_t header_words = 5, std::uint16_t fragment = 0) {
    return {.source = IpAddress::v4(0x0a000001),
            .destination = IpAddress::v4(0x64598004),
            .protocol = protocol,
            .header_words = header_words,
            .version = 4,
            .fragment = fragment};
}

Ipv6Fields v6(std::uint8_t next_header) {
    return {.source = {IpFamily::v6, 0xfd00ULL << 48, 1},
            .destination = {IpFamily::v6, 0x2001ULL << 48, 2},
            .next_header = next_header};
}

PacketBuilder many_extensions(std::size_t count) {
    PacketBuilder builder;
    builder.ipv6(v6(60));
    for (std::size_t i = 1; i <= count; ++i)
        builder.extension(i < count ? 60 : 6);
    return builder;
}

std::vector<NamedPacket> v4_packets() {
    return {
        {"TCP", PacketBuilder().ipv4(v4(6)).tcp().payload(10).build()},
        {"TCP with options", PacketBuilder().ipv4(v4(6)).tcp(15).payload(10).build()},
        {"UDP", PacketBuilder().ipv4(v4(17)).udp().payload(10).build()},
        {"ICMP", PacketBuilder().ipv4(v4(1)).payload(16).build()},
        {"ICMPv6 over IPv4", PacketBuilder().ipv4(v4(58)).payload(16).build()},
        {"GRE", PacketBuilder().ipv4(v4(47)).payload(16).build()},
        {"IP options and TCP", PacketBuilder().ipv4(v4(6, 15)).tcp().payload(10).build()},
        {"IP options and UDP", PacketBuilder().ipv4(v4(17, 7)).udp().payload(10).build()},
        {"first fragment", PacketBuilder().ipv4(v4(6, 5, 0x2000)).tcp().payload(12).build()},
        {"later fragment", PacketBuilder().ipv4(v4(6, 5, 0x2001)).payload(32).build()},
        {"last fragment", PacketBuilder().ipv4(v4(17, 6, 0x1fff)).payload(32).build()},
        {"do not fragment", PacketBuilder().ipv4(v4(17, 5, 0x4000)).udp().payload(3).build()},
    };
}

std::vector<NamedPacket> v6_packets() {
    return {
        {"TCP6", PacketBuilder().ipv6(v6(6)).tcp(8).payload(10).build()},
        {"UDP6", PacketBuilder().ipv6(v6(17)).udp().payload(10).build()},
        {"ICMPv6", PacketBuilder().ipv6(v6(58)).payload(16).build()},
        {"ICMP over IPv6", PacketBuilder().ipv6(v6(1)).payload(16).build()},
        {"no next header", PacketBuilder().ipv6(v6(59)).payload(4).build()},
        {"ESP", PacketBuilder().ipv6(v6(50)).payload(24).build()},
        {"hop-by-hop", PacketBuilder().ipv6(v6(0)).extension(6, 1).tcp().payload(5).build()},
        {"routing", PacketBuilder().ipv6(v6(43)).extension(17, 3).udp().payload(5).build()},
        {"mobility", PacketBuilder().ipv6(v6(135)).extension(59, 1).payload(5).build()},
        {"AH", PacketBuilder().ipv6(v6(51)).authentication(6, 3).tcp().payload(5).build()},
        {"AH and more",
         PacketBuilder().ipv6(v6(0)).extension(51).authentication(60, 4).extension(17, 2).udp().build()},
        {"first fragment 6",
         PacketBuilder().ipv6(v6(44)).fragment_header(6, 0, true).tcp().payload(4).build()},
        {"later fragment 6", PacketBuilder().ipv6(v6(44)).fragment_header(6, 3, true).payload(24).build()},
        {"later fragment with options",
         PacketBuilder().ipv6(v6(44)).fragment_header(60, 1, false).payload(24).build()},
        {"eight extensions", many_extensions(8).tcp().payload(3).build()},
        {"nine extensions", many_extensions(9).tcp().payload(3).build()},
    };
}

}  // namespace

std::vector<NamedPacket> one_of_each_kind() {
    std::vector<NamedPacket> packets = v4_packets();
    for (NamedPacket& each : v6_packets())
        packets.push_back(std::move(each));
    return packets;
}

std::vector<KnownPacket> known_packets() {
    const std::string to4 = "100.89.128.4";
    const std::string to6 = "2001::2";
    return {
        {"empty UDP datagram", PacketBuilder().ipv4(v4(17)).udp().build(), to4, TRAFFIC_UDP, 1, 28},
        {"full TCP segment", PacketBuilder().ipv4(v4(6)).tcp(8).payload(1448).build(), to4, TRAFFIC_TCP, 1,
         1500},
        {"two segments and a byte, 52 bytes of headers each",
         PacketBuilder().ipv4(v4(6)).tcp(8).payload(2001).build(), to4, TRAFFIC_TCP, 3, 2001 + 3 * 52, 1000},
        {"exactly two segments", PacketBuilder().ipv4(v4(6)).tcp().payload(2000).build(), to4, TRAFFIC_TCP, 2,
         2000 + 2 * 40, 1000},
        {"segment size above the payload", PacketBuilder().ipv4(v4(6)).tcp().payload(10).build(), to4,
         TRAFFIC_TCP, 1, 50, 1000},
        {"UDP super-packet over IPv6", PacketBuilder().ipv6(v6(17)).udp().payload(3000).build(), to6,
         TRAFFIC_UDP, 3, 3000 + 3 * 48, 1200},
        {"IP options are repeated too", PacketBuilder().ipv4(v4(6, 10)).tcp().payload(1500).build(), to4,
         TRAFFIC_TCP, 2, 1500 + 2 * 60, 1000},
        {"ICMP super-packet", PacketBuilder().ipv4(v4(1)).payload(2000).build(), to4, TRAFFIC_ICMP, 1, 2020,
         1000, true},
        {"later fragment of UDP", PacketBuilder().ipv4(v4(17, 5, 0x20b9)).payload(1480).build(), to4,
         TRAFFIC_UDP, 1, 1500},
        {"later fragment of TCP6",
         PacketBuilder().ipv6(v6(44)).fragment_header(6, 180, false).payload(100).build(), to6, TRAFFIC_TCP,
         1, 148},
        {"ICMPv6 behind hop-by-hop (MLD)", PacketBuilder().ipv6(v6(0)).extension(58).payload(20).build(), to6,
         TRAFFIC_ICMP, 1, 68},
        {"ICMPv6 number over IPv4", PacketBuilder().ipv4(v4(58)).payload(20).build(), to4, TRAFFIC_OTHER, 1,
         40},
        {"ESP hides what it carries", PacketBuilder().ipv6(v6(50)).payload(60).build(), to6, TRAFFIC_OTHER, 1,
         100},
        {"TCP behind AH of 24 bytes", PacketBuilder().ipv6(v6(51)).authentication(6, 3).tcp().build(), to6,
         TRAFFIC_TCP, 1, 84},
        {"chain cut off", PacketBuilder().ipv6(v6(60)).payload(7).build(), to6, TRAFFIC_OTHER, 1, 47},
        {"ninth extension header is not followed", many_extensions(9).tcp().build(), to6, TRAFFIC_OTHER, 1,
         132},
    };
}

std::vector<std::uint8_t> random_chain(std::mt19937_64& random) {
    constexpr std::uint8_t kinds[] = {0, 43, 44, 51, 60, 135};
    constexpr std::uint8_t ends[] = {6, 17, 58, 59, 50, 139, 0, 44};
    std::uint8_t kind = kinds[random() % 6];
    PacketBuilder builder;
    builder.ipv6(v6(kind));
    for (std::uint64_t left = random() % 12; left > 0; --left) {
        const std::uint8_t next = left == 1 ? ends[random() % 8] : kinds[random() % 6];
        const auto more = static_cast<std::uint8_t>(random() % 16 == 0 ? random() % 256 : random() % 3);
        if (kind == 44)
            builder.fragment_header(next, random() % 8 == 0 ? random() % 0x2000 : 0, random() & 1);
        else if (kind == 51)
            builder.authentication(next, more % 64);
        else
            builder.extension(next, more);
        kind = next;
        // The kernel takes no frame beyond a page.
        if (more > 64)
            break;
    }
    if (kind == 6)
        builder.tcp(static_cast<std::uint8_t>(5 + random() % 11));
    return builder.payload(random() % 200).build();
}

}  // namespace pangolin::test
