// Packets to damage and to send to the traffic programs.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "bpf/shared/traffic.h"

namespace pangolin::test {

// A frame with an Ethernet header.
struct NamedPacket {
    std::string name;
    std::vector<std::uint8_t> frame;
};

// Correct packets of every kind that the programs tell apart, with a little payload.
std::vector<NamedPacket> one_of_each_kind();

// A packet and what it is on the wire, worked out by hand.
struct KnownPacket {
    std::string description;
    std::vector<std::uint8_t> frame;
    std::string destination;
    traffic_protocol protocol = TRAFFIC_OTHER;
    std::uint64_t packets = 1;
    std::uint64_t bytes = 0;
    std::uint32_t gso_size = 0;
    bool segments_unknown = false;
};
std::vector<KnownPacket> known_packets();

// IPv6 with up to twelve extension headers of any kind and length, random in what they do not need to be.
std::vector<std::uint8_t> random_chain(std::mt19937_64& random);

}  // namespace pangolin::test
