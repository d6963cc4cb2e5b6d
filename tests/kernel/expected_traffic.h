// What a TrafficProgram should have counted, kept by a test beside it.
#pragma once

#include <map>
#include <span>
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

    // `times` packets like `packet`, which begins with the IP header.
    void add(traffic_direction direction, std::span<const std::uint8_t> packet, std::uint32_t gso_size = 0,
             std::uint64_t times = 1);

    // As TrafficProgram::forget_unmatched().
    void forget_unmatched(const IpAddress& remote) { unmatched_.erase(remote); }

    // Fails the test for every slot, address and loss that differs; nothing may be counted elsewhere.
    void expect_counted(const TrafficProgram& program) const;
    void expect_slots(const TrafficProgram& program) const;
    void expect_losses(const TrafficProgram& program) const;

  private:
    void expect_unmatched(const TrafficProgram& program) const;

    PrefixModel model_;
    std::map<std::uint32_t, traffic_counts> slots_;
    std::map<IpAddress, traffic_counts> unmatched_;
    TrafficLosses losses_;
};

}  // namespace pangolin::test
