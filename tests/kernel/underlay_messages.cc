#include "tests/kernel/underlay_messages.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "tests/support/packet_builder.h"

namespace pangolin::test {
namespace {

std::array<std::uint8_t, 32> blake2s(std::span<const std::uint8_t> bytes) {
    std::array<std::uint8_t, 32> digest{};
    if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_blake2s256(), nullptr) != 1)
        throw std::runtime_error("EVP_Digest");
    return digest;
}

void put_le32(Message& message, std::size_t at, std::uint32_t value) {
    for (std::size_t i = 0; i < 4; ++i)
        message[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
}

Message message_of(std::uint32_t type, std::size_t size) {
    Message message(size);
    put_le32(message, 0, type);
    return message;
}

void randomize(Message& message, std::size_t from, std::mt19937_64& random) {
    std::generate(message.begin() + static_cast<std::ptrdiff_t>(from), message.end(),
                  [&] { return static_cast<std::uint8_t>(random()); });
}

// mac1 and mac2 are the last 32 bytes.
void seal(Message& message, const PublicKey& receiver) {
    const std::size_t covered = message.size() - 32;
    std::ranges::copy(openssl_mac1(receiver, std::span(message).first(covered)),
                      message.begin() + static_cast<std::ptrdiff_t>(covered));
}

void put_be16(std::vector<std::uint8_t>& bytes, std::uint16_t value) {
    bytes.push_back(static_cast<std::uint8_t>(value >> 8));
    bytes.push_back(static_cast<std::uint8_t>(value));
}

}  // namespace

std::array<std::uint8_t, 16> openssl_mac1(const PublicKey& receiver, std::span<const std::uint8_t> covered) {
    constexpr std::string_view label = "mac1----";
    Message input(label.begin(), label.end());
    input.insert(input.end(), receiver.begin(), receiver.end());
    const std::array<std::uint8_t, 32> key = blake2s(input);

    const std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> mac(EVP_MAC_fetch(nullptr, "BLAKE2SMAC", nullptr),
                                                                EVP_MAC_free);
    const std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> context(EVP_MAC_CTX_new(mac.get()),
                                                                            EVP_MAC_CTX_free);
    std::size_t size = 16;
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                                     OSSL_PARAM_construct_end()};
    std::array<std::uint8_t, 16> result{};
    if (EVP_MAC_init(context.get(), key.data(), key.size(), parameters) != 1 ||
        EVP_MAC_update(context.get(), covered.data(), covered.size()) != 1 ||
        EVP_MAC_final(context.get(), result.data(), &size, result.size()) != 1)
        throw std::runtime_error("BLAKE2SMAC");
    return result;
}

Message initiation(const PublicKey& receiver, std::uint32_t sender, std::mt19937_64& random) {
    Message message = message_of(1, 148);
    randomize(message, 8, random);
    put_le32(message, 4, sender);
    seal(message, receiver);
    return message;
}

Message response(const PublicKey& receiver, std::uint32_t sender_index, std::uint32_t receiver_index,
                 std::mt19937_64& random) {
    Message message = message_of(2, 92);
    randomize(message, 12, random);
    put_le32(message, 4, sender_index);
    put_le32(message, 8, receiver_index);
    seal(message, receiver);
    return message;
}

Message cookie_reply(std::uint32_t receiver_index) {
    Message message = message_of(3, 64);
    put_le32(message, 4, receiver_index);
    return message;
}

Message data(std::uint32_t receiver_index, std::size_t size) {
    Message message = message_of(4, size);
    put_le32(message, 4, receiver_index);
    return message;
}

Message joined(std::initializer_list<Message> messages) {
    Message all;
    for (const Message& message : messages)
        all.insert(all.end(), message.begin(), message.end());
    return all;
}

std::vector<std::uint8_t> udp_frame(const UdpEnd& from, const UdpEnd& to, const Message& payload,
                                    std::uint8_t option_words, std::uint16_t fragment) {
    PacketBuilder builder;
    if (from.address.family == IpFamily::v4)
        builder.ipv4({.source = from.address,
                      .destination = to.address,
                      .protocol = 17,
                      .header_words = static_cast<std::uint8_t>(5 + option_words),
                      .fragment = fragment});
    else
        builder.ipv6({.source = from.address, .destination = to.address, .next_header = 17});
    std::vector<std::uint8_t> udp;
    put_be16(udp, from.port);
    put_be16(udp, to.port);
    put_be16(udp, static_cast<std::uint16_t>(8 + payload.size()));
    put_be16(udp, 0);
    return builder.raw(udp).raw(payload).build();
}

}  // namespace pangolin::test
