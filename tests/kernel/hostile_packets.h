// Packets to damage and to send to the traffic programs.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace pangolin::test {

// A frame with an Ethernet header.
struct NamedPacket {
    std::string name;
    std::vector<std::uint8_t> frame;
};

// Correct packets of every kind that the programs tell apart, with a little payload.
std::vector<NamedPacket> one_of_each_kind();

// IPv6 with up to twelve extension headers of any kind and length, random in what they do not need to be.
std::vector<std::uint8_t> random_chain(std::mt19937_64& random);

}  // namespace pangolin::test
