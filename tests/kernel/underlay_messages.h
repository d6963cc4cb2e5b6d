// WireGuard's messages as the network carries them, made with OpenSSL's BLAKE2s.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "bpf/shared/address.h"
#include "loader/base/ip_prefix.h"

namespace pangolin::test {

using PublicKey = std::array<std::uint8_t, 32>;
using Message = std::vector<std::uint8_t>;

// The first 16 bytes of mac1 for messages to `receiver` that begin with `covered`.
std::array<std::uint8_t, 16> openssl_mac1(const PublicKey& receiver, std::span<const std::uint8_t> covered);

// With random content and the mac1 for `receiver`.
Message initiation(const PublicKey& receiver, std::uint32_t sender, std::mt19937_64& random);
Message response(const PublicKey& receiver, std::uint32_t sender_index, std::uint32_t receiver_index,
                 std::mt19937_64& random);
Message cookie_reply(std::uint32_t receiver_index);
// `size` of the whole message.
Message data(std::uint32_t receiver_index, std::size_t size);
Message joined(std::initializer_list<Message> messages);

struct UdpEnd {
    IpAddress address;
    std::uint16_t port = 0;
};

// An Ethernet frame. `option_words` are IPv4 options.
std::vector<std::uint8_t> udp_frame(const UdpEnd& from, const UdpEnd& to, const Message& payload,
                                    std::uint8_t option_words = 0, std::uint16_t fragment = 0);

}  // namespace pangolin::test
