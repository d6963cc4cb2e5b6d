// What a TrafficProgram should have counted, kept by a test beside it.
#pragma once

#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "loader/traffic_program.h"
#include "tests/kernel/reference_decoder.h"
#include "tests/support/prefix_model.h"

namespace pangolin::test {

traffic_count total(const traffic_counts& counts);

// Sum of everything in `program`, of its slots and of its unmatched addresses.
traffic_count total(const TrafficProgram& program);

class ExpectedTraffic {
  public:
    explicit ExpectedTraffic(std::span<const Route> routes) : model_(routes) {}

    // For the packets that follow.
    void set_routes(std::span<const Route> routes) { model_ = PrefixModel(routes); }
    // Routes first.
    void set_targets(std::span<const CountedTarget> targets);

    // `times` packets like `packet`, which begins with the IP header.
    void add(traffic_direction direction, std::span<const std::uint8_t> packet, std::uint32_t gso_size = 0,
             std::uint64_t times = 1);

    // As TrafficProgram::forget_unmatched().
    void forget_unmatched(const IpAddress& remote) { unmatched_.erase(remote); }

    // Fails the test for every slot, address and loss that differs; nothing may be counted elsewhere.
    void expect_counted(const TrafficProgram& program) const;
    void expect_slots(const TrafficProgram& program) const;
    void expect_targets(const TrafficProgram& program) const;
    void expect_losses(const TrafficProgram& program) const;

  private:
    using Service = std::pair<std::uint8_t, std::uint16_t>;  // IP protocol number and port
    // Direction, source, destination, identification and, for IPv4 alone, protocol.
    using Datagram = std::tuple<traffic_direction, IpAddress, IpAddress, std::uint32_t, std::uint8_t>;

    void expect_unmatched(const TrafficProgram& program) const;
    void add_to_target(traffic_direction direction, const ReferencePacket& decoded, std::uint64_t times);
    std::optional<Service> service_of(traffic_direction direction, const ReferencePacket& decoded,
                                      std::uint64_t times);

    PrefixModel model_;
    std::map<std::uint32_t, traffic_counts> slots_;
    std::map<IpAddress, traffic_counts> unmatched_;
    std::map<std::pair<IpAddress, Service>, std::uint32_t> target_indexes_;
    std::set<std::uint32_t> slots_with_targets_;
    std::map<Datagram, std::optional<Service>> first_fragments_;
    std::map<std::uint32_t, target_counts> targets_;
    TrafficLosses losses_;
};

}  // namespace pangolin::test
