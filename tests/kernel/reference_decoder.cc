#include "tests/kernel/reference_decoder.h"

#include <algorithm>

namespace pangolin::test {
namespace {

using Bytes = std::span<const std::uint8_t>;

enum : std::uint8_t {
    hop_by_hop = 0,
    icmp = 1,
    tcp = 6,
    udp = 17,
    routing = 43,
    fragment = 44,
    authentication = 51,
    icmp_v6 = 58,
    destination_options = 60,
    mobility = 135,
};

// "Extension headers are not examined" more than this many: the limit that traffic.bpf.c documents.
constexpr int followed_extension_headers = 8;

// Where the network header ends and what follows it there.
struct Upper {
    std::size_t offset = 0;
    std::uint8_t protocol = 0;
    // The transport header begins at `offset`: not in later fragments, not behind a chain that is cut off.
    bool transport = true;
    std::optional<ReferenceFragment> fragment = {};
};

std::size_t number16(Bytes packet, std::size_t at) {
    return std::size_t{packet[at]} << 8 | packet[at + 1];
}

bool extension(std::uint8_t protocol) {
    constexpr std::uint8_t all[] = {hop_by_hop,          routing, fragment, authentication,
                                    destination_options, mobility};
    return std::ranges::find(all, protocol) != std::end(all);
}

Upper upper_v4(Bytes packet) {
    const bool more_fragments = (packet[6] & 0x20U) != 0;
    const bool later_fragment = number16(packet, 6) % 0x2000 != 0;
    Upper upper{
        .offset = std::size_t{packet[0] & 15U} * 4, .protocol = packet[9], .transport = !later_fragment};
    if (more_fragments || later_fragment)
        upper.fragment = {.identification = static_cast<std::uint32_t>(number16(packet, 4)),
                          .first = !later_fragment};
    return upper;
}

Upper upper_v6(Bytes packet) {
    Upper upper{.offset = 40, .protocol = packet[6], .transport = true};
    for (int i = 0; i < followed_extension_headers && extension(upper.protocol); ++i) {
        // None is shorter than 8 octets; one whose beginning is there names what follows it.
        if (upper.offset + 8 > packet.size())
            break;
        const Bytes header = packet.subspan(upper.offset);
        const std::uint8_t kind = upper.protocol;
        upper.protocol = header[0];
        if (kind == fragment) {
            upper.offset += 8;
            const bool later = number16(header, 2) >> 3 != 0;
            if (later || (header[3] & 1U) != 0)
                upper.fragment = {.identification = static_cast<std::uint32_t>(number16(header, 4) << 16 |
                                                                               number16(header, 6)),
                                  .first = !later};
            if (later) {
                upper.transport = false;
                return upper;
            }
        } else if (kind == authentication) {
            upper.offset += std::size_t{header[1]} * 4 + 8;
        } else {
            upper.offset += std::size_t{header[1]} * 8 + 8;
        }
    }
    upper.transport = !extension(upper.protocol);
    if (upper.fragment)
        upper.fragment->first = upper.transport;
    return upper;
}

traffic_protocol protocol_of(std::uint8_t number, bool v6) {
    if (number == tcp)
        return TRAFFIC_TCP;
    if (number == udp)
        return TRAFFIC_UDP;
    return number == (v6 ? icmp_v6 : icmp) ? TRAFFIC_ICMP : TRAFFIC_OTHER;
}

// Octets of headers that every segment repeats; nothing when they cannot be known.
std::optional<std::size_t> segment_header(Bytes packet, const Upper& upper) {
    if (!upper.transport)
        return std::nullopt;
    if (upper.protocol == udp)
        return upper.offset + 8;
    if (upper.protocol != tcp || upper.offset + 12 >= packet.size())
        return std::nullopt;
    const std::size_t words = packet[upper.offset + 12] >> 4;
    if (words < 5)
        return std::nullopt;
    return upper.offset + words * 4;
}

void count_segments(Bytes packet, const Upper& upper, std::uint32_t gso_size, ReferencePacket& result) {
    const std::optional<std::size_t> header = segment_header(packet, upper);
    result.segments_unknown = !header;
    if (!header || *header >= packet.size())
        return;
    result.packets = 0;
    result.bytes = 0;
    for (std::size_t payload = packet.size() - *header; payload > 0;) {
        const std::size_t part = std::min<std::size_t>(payload, gso_size);
        result.packets += 1;
        result.bytes += *header + part;
        payload -= part;
    }
}

ReferencePacket undecodable(traffic_undecodable reason) {
    ReferencePacket result;
    result.undecodable = reason;
    return result;
}

}  // namespace

ReferencePacket decode_reference(Bytes packet, std::uint32_t gso_size) {
    if (packet.size() < 20)
        return undecodable(TRAFFIC_TRUNCATED);
    const int version = packet[0] >> 4;
    if (version != 4 && version != 6)
        return undecodable(TRAFFIC_BAD_VERSION);
    const bool v6 = version == 6;
    if (v6 && packet.size() < 40)
        return undecodable(TRAFFIC_TRUNCATED);
    const std::size_t header = std::size_t{packet[0] & 15U} * 4;
    if (!v6 && (header < 20 || header > packet.size()))
        return undecodable(TRAFFIC_BAD_HEADER_LENGTH);

    const Upper upper = v6 ? upper_v6(packet) : upper_v4(packet);
    const IpFamily family = v6 ? IpFamily::v6 : IpFamily::v4;
    ReferencePacket result;
    result.source = IpAddress::from_network(family, &packet[v6 ? 8 : 12]);
    result.destination = IpAddress::from_network(family, &packet[v6 ? 24 : 16]);
    result.protocol = protocol_of(upper.protocol, v6);
    result.protocol_number = upper.protocol;
    result.fragment = upper.fragment;
    const bool has_ports = upper.protocol == tcp || upper.protocol == udp;
    if (upper.transport && has_ports && upper.offset + 4 <= packet.size())
        result.ports = {.source = static_cast<std::uint16_t>(number16(packet, upper.offset)),
                        .destination = static_cast<std::uint16_t>(number16(packet, upper.offset + 2))};
    result.bytes = packet.size();
    if (gso_size != 0)
        count_segments(packet, upper, gso_size, result);
    return result;
}

}  // namespace pangolin::test
