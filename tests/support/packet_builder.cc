#include "tests/support/packet_builder.h"

#include <bit>

namespace pangolin::test {
namespace {

void put16(std::uint8_t* at, std::uint16_t value) {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value);
}

void put32(std::uint8_t* at, std::uint32_t value) {
    put16(at, static_cast<std::uint16_t>(value >> 16));
    put16(at + 2, static_cast<std::uint16_t>(value));
}

void put128(std::uint8_t* at, const IpAddress& address) {
    put32(at, static_cast<std::uint32_t>(address.high >> 32));
    put32(at + 4, static_cast<std::uint32_t>(address.high));
    put32(at + 8, static_cast<std::uint32_t>(address.low >> 32));
    put32(at + 12, static_cast<std::uint32_t>(address.low));
}

}  // namespace

PacketBuilder& PacketBuilder::append(std::size_t size) {
    bytes_.resize(bytes_.size() + size);
    return *this;
}

PacketBuilder& PacketBuilder::ipv4(const Ipv4Fields& fields) {
    const std::size_t length = fields.header_words < 5 ? 20U : fields.header_words * 4U;
    put16(bytes_.data() + 12, 0x0800);
    append(length);
    std::uint8_t* const header = tail(length);
    header[0] = static_cast<std::uint8_t>(fields.version << 4 | fields.header_words);
    put16(header + 4, fields.identification);
    put16(header + 6, fields.fragment);
    header[8] = 64;
    header[9] = fields.protocol;
    put32(header + 12, fields.source.v4_value());
    put32(header + 16, fields.destination.v4_value());
    return *this;
}

PacketBuilder& PacketBuilder::ipv6(const Ipv6Fields& fields) {
    put16(bytes_.data() + 12, 0x86dd);
    append(40);
    std::uint8_t* const header = tail(40);
    header[0] = 0x60;
    header[6] = fields.next_header;
    header[7] = 64;
    put128(header + 8, fields.source);
    put128(header + 24, fields.destination);
    return *this;
}

PacketBuilder& PacketBuilder::extension(std::uint8_t next_header, std::uint8_t extra_words) {
    const std::size_t length = std::size_t{8} * (1U + extra_words);
    append(length);
    tail(length)[0] = next_header;
    tail(length)[1] = extra_words;
    return *this;
}

PacketBuilder& PacketBuilder::fragment_header(std::uint8_t next_header, std::uint16_t offset_units, bool more,
                                              std::uint32_t identification) {
    append(8);
    tail(8)[0] = next_header;
    put16(tail(8) + 2, static_cast<std::uint16_t>(offset_units << 3 | (more ? 1 : 0)));
    put32(tail(8) + 4, identification);
    return *this;
}

PacketBuilder& PacketBuilder::authentication(std::uint8_t next_header, std::uint8_t words) {
    const std::size_t length = 12U + words * 4U;
    append(length);
    tail(length)[0] = next_header;
    tail(length)[1] = static_cast<std::uint8_t>(length / 4 - 2);
    return *this;
}

PacketBuilder& PacketBuilder::tcp(std::uint8_t header_words) {
    const std::size_t length = std::size_t{4} * header_words;
    transport_ = bytes_.size();
    append(length);
    tail(length)[12] = static_cast<std::uint8_t>(header_words << 4);
    return *this;
}

PacketBuilder& PacketBuilder::udp() {
    transport_ = bytes_.size();
    return append(8);
}

PacketBuilder& PacketBuilder::ports(std::uint16_t source, std::uint16_t destination) {
    put16(bytes_.data() + transport_, source);
    put16(bytes_.data() + transport_ + 2, destination);
    return *this;
}

PacketBuilder& PacketBuilder::payload(std::size_t size) {
    return append(size);
}

PacketBuilder& PacketBuilder::raw(std::span<const std::uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
}

std::vector<std::uint8_t> PacketBuilder::build() const {
    std::vector<std::uint8_t> frame = bytes_;
    if (frame.size() < ethernet_length + 20)
        return frame;
    std::uint8_t* const header = frame.data() + ethernet_length;
    const auto length = static_cast<std::uint16_t>(frame.size() - ethernet_length);
    if (header[0] >> 4 == 4)
        put16(header + 2, length);
    else if (header[0] >> 4 == 6 && length >= 40)
        put16(header + 4, static_cast<std::uint16_t>(length - 40));
    return frame;
}

}  // namespace pangolin::test
