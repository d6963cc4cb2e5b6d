// What a packet should count as: a second opinion beside bpf/traffic.bpf.c, written from RFC 791 (IPv4),
// RFC 8200 and 6946 (IPv6), RFC 4302 (AH), RFC 9293 (TCP) and RFC 768 (UDP). Shares only the enumerations
// with it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "bpf/shared/traffic.h"
#include "loader/base/ip_prefix.h"

namespace pangolin::test {

struct ReferenceFragment {
    std::uint32_t identification = 0;
    // It carries the transport header.
    bool first = false;
};

struct ReferencePorts {
    std::uint16_t source = 0;
    std::uint16_t destination = 0;
};

struct ReferencePacket {
    // Why nothing below is known.
    std::optional<traffic_undecodable> undecodable;
    IpAddress source;
    IpAddress destination;
    traffic_protocol protocol = TRAFFIC_OTHER;
    // What the protocol is taken from.
    std::uint8_t protocol_number = 0;
    // Of TCP and UDP, where they are in the packet.
    std::optional<ReferencePorts> ports;
    std::optional<ReferenceFragment> fragment;
    // On the wire: segments of a super-packet, each with its headers.
    std::uint64_t packets = 1;
    std::uint64_t bytes = 0;
    // A super-packet whose headers cannot be told from its payload counts as one packet.
    bool segments_unknown = false;
};

// `packet` begins with the IP header. `gso_size` is the payload of a segment, 0 for an ordinary packet.
ReferencePacket decode_reference(std::span<const std::uint8_t> packet, std::uint32_t gso_size = 0);

}  // namespace pangolin::test
