// Packets for BPF_PROG_RUN: an Ethernet header (which that call needs) and whatever the test puts behind it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/base/ip_prefix.h"

namespace pangolin::test {

inline constexpr std::uint32_t ethernet_length = 14;

struct Ipv4Fields {
    IpAddress source;
    IpAddress destination;
    std::uint8_t protocol = 6;
    std::uint8_t header_words = 5;  // IHL; options are zero bytes
    std::uint8_t version = 4;
    std::uint16_t fragment = 0;  // flags and offset as on the wire, host order
    std::uint16_t identification = 0;
};

struct Ipv6Fields {
    IpAddress source;
    IpAddress destination;
    std::uint8_t next_header = 6;
};

// Builds a frame from front to back.
class PacketBuilder {
  public:
    PacketBuilder() : bytes_(ethernet_length, 0) {}

    PacketBuilder& ipv4(const Ipv4Fields& fields);
    PacketBuilder& ipv6(const Ipv6Fields& fields);
    // An extension header of (1 + extra_words) * 8 bytes.
    PacketBuilder& extension(std::uint8_t next_header, std::uint8_t extra_words = 0);
    PacketBuilder& fragment_header(std::uint8_t next_header, std::uint16_t offset_units, bool more,
                                   std::uint32_t identification = 0);
    // An authentication header with `words` * 4 bytes of integrity value.
    PacketBuilder& authentication(std::uint8_t next_header, std::uint8_t words);
    PacketBuilder& tcp(std::uint8_t header_words = 5);
    PacketBuilder& udp();
    // Writes the ports of the TCP or UDP header that was just added.
    PacketBuilder& ports(std::uint16_t source, std::uint16_t destination);
    PacketBuilder& payload(std::size_t size);
    PacketBuilder& raw(std::span<const std::uint8_t> bytes);

    // Fills in the IP length and returns the frame.
    std::vector<std::uint8_t> build() const;

  private:
    PacketBuilder& append(std::size_t size);
    std::uint8_t* tail(std::size_t size) { return bytes_.data() + bytes_.size() - size; }

    std::vector<std::uint8_t> bytes_;
    std::size_t transport_ = 0;
};

}  // namespace pangolin::test
