#include "tests/kernel/expected_traffic.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace pangolin::test {
namespace {

std::string text(const traffic_counts& counts) {
    std::string result;
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        for (int protocol = 0; protocol < TRAFFIC_PROTOCOLS; ++protocol) {
            const traffic_count& each = counts.count[direction][protocol];
            result += fmt::format(" {}/{}", each.packets, each.bytes);
        }
        result += direction == TRAFFIC_INGRESS ? " |" : "";
    }
    return result;
}

// Packets/bytes of TCP, UDP, ICMP and other, ingress | egress, is what a failure shows.
void expect_equal(const traffic_counts& counted, const traffic_counts& expected, const std::string& of) {
    if (std::memcmp(&counted, &expected, sizeof counted) != 0)
        ADD_FAILURE() << of << "\n counted" << text(counted) << "\nexpected" << text(expected);
}

}  // namespace

traffic_count total(const traffic_counts& counts) {
    traffic_count sum{};
    for (const auto& direction : counts.count) {
        for (const traffic_count& each : direction) {
            sum.packets += each.packets;
            sum.bytes += each.bytes;
        }
    }
    return sum;
}

traffic_count total(const TrafficProgram& program) {
    traffic_count sum{};
    const auto add = [&](const traffic_counts& counts) {
        const traffic_count part = total(counts);
        sum.packets += part.packets;
        sum.bytes += part.bytes;
    };
    for (std::uint32_t slot = 0; slot < program.capacity().slots; ++slot)
        add(program.read(slot));
    for (const UnmatchedTraffic& each : program.read_unmatched())
        add(each.counts);
    return sum;
}

void ExpectedTraffic::add(traffic_direction direction, std::span<const std::uint8_t> packet,
                          std::uint32_t gso_size, std::uint64_t times) {
    const ReferencePacket decoded = decode_reference(packet, gso_size);
    if (decoded.undecodable) {
        losses_.undecodable[direction][*decoded.undecodable] += times;
        return;
    }
    if (decoded.segments_unknown)
        losses_.loss[TRAFFIC_LOSS_GSO_HEADER] += times;
    const IpAddress& remote = direction == TRAFFIC_INGRESS ? decoded.source : decoded.destination;
    const std::uint32_t slot = model_.find(remote);
    traffic_counts& counts = slot == TRAFFIC_SLOT_UNMATCHED ? unmatched_[remote] : slots_[slot];
    traffic_count& count = counts.count[direction][decoded.protocol];
    count.packets += times * decoded.packets;
    count.bytes += times * decoded.bytes;
    if (!target_indexes_.empty() && (slot == TRAFFIC_SLOT_UNMATCHED || slots_with_targets_.contains(slot)))
        add_to_target(direction, decoded, times);
}

void ExpectedTraffic::set_targets(std::span<const CountedTarget> targets) {
    target_indexes_.clear();
    slots_with_targets_.clear();
    for (const CountedTarget& target : targets) {
        const Service service{static_cast<std::uint8_t>(target.protocol), target.port};
        target_indexes_[{target.address, service}] = target.index;
        slots_with_targets_.insert(model_.find(target.address));
    }
}

void ExpectedTraffic::add_to_target(traffic_direction direction, const ReferencePacket& decoded,
                                    std::uint64_t times) {
    const std::optional<Service> service = service_of(direction, decoded, times);
    if (!service)
        return;
    const IpAddress& remote = direction == TRAFFIC_INGRESS ? decoded.source : decoded.destination;
    const auto target = target_indexes_.find({remote, *service});
    if (target == target_indexes_.end())
        return;
    traffic_count& count = targets_[target->second].count[direction];
    count.packets += times * decoded.packets;
    count.bytes += times * decoded.bytes;
}

std::optional<ExpectedTraffic::Service> ExpectedTraffic::service_of(traffic_direction direction,
                                                                    const ReferencePacket& decoded,
                                                                    std::uint64_t times) {
    constexpr std::uint8_t extension_headers[] = {0, 43, 44, 51, 60, 135};
    const bool v6 = decoded.source.family == IpFamily::v6;
    const std::uint8_t protocol = decoded.protocol_number;
    const bool has_ports = protocol == 6 || protocol == 17;
    std::optional<Service> service;
    if (decoded.ports)
        service = {protocol,
                   direction == TRAFFIC_INGRESS ? decoded.ports->source : decoded.ports->destination};
    if (!decoded.fragment)
        return service;
    const Datagram datagram{direction, decoded.source, decoded.destination, decoded.fragment->identification,
                            v6 ? 0 : protocol};
    if (decoded.fragment->first) {
        // One that ends before its ports tells nothing; one of another protocol tells that there is no
        // target.
        if (has_ports == service.has_value())
            first_fragments_[datagram] = service;
        return service;
    }
    if (!has_ports && !(v6 && std::ranges::count(extension_headers, protocol) != 0))
        return std::nullopt;
    const auto first = first_fragments_.find(datagram);
    if (first != first_fragments_.end())
        return first->second;
    losses_.loss[TRAFFIC_LOSS_FRAGMENT] += times;
    return std::nullopt;
}

void ExpectedTraffic::expect_counted(const TrafficProgram& program) const {
    expect_slots(program);
    expect_targets(program);
    expect_unmatched(program);
    expect_losses(program);
}

void ExpectedTraffic::expect_slots(const TrafficProgram& program) const {
    for (std::uint32_t slot = 0; slot < program.capacity().slots; ++slot) {
        const auto expected = slots_.find(slot);
        expect_equal(program.read(slot), expected == slots_.end() ? traffic_counts{} : expected->second,
                     fmt::format("slot {}", slot));
    }
}

void ExpectedTraffic::expect_targets(const TrafficProgram& program) const {
    for (std::uint32_t index = 0; index < program.capacity().targets.indexes; ++index) {
        const auto expected = targets_.find(index);
        const target_counts counted = program.read_target(index);
        for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS}) {
            const traffic_count wanted =
                expected == targets_.end() ? traffic_count{} : expected->second.count[direction];
            EXPECT_EQ(counted.count[direction].packets, wanted.packets)
                << "target " << index << ", direction " << direction;
            EXPECT_EQ(counted.count[direction].bytes, wanted.bytes)
                << "target " << index << ", direction " << direction;
        }
    }
}

void ExpectedTraffic::expect_unmatched(const TrafficProgram& program) const {
    std::map<IpAddress, traffic_counts> counted;
    for (const UnmatchedTraffic& each : program.read_unmatched())
        EXPECT_TRUE(counted.emplace(each.remote, each.counts).second) << each.remote.to_string() << " twice";
    for (const auto& [remote, counts] : unmatched_)
        expect_equal(counted[remote], counts, "unmatched " + remote.to_string());
    for (const auto& [remote, counts] : counted)
        EXPECT_TRUE(unmatched_.contains(remote)) << remote.to_string() << text(counts);
}

void ExpectedTraffic::expect_losses(const TrafficProgram& program) const {
    const TrafficLosses counted = program.read_losses();
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        for (int reason = 0; reason < TRAFFIC_UNDECODABLE_REASONS; ++reason)
            EXPECT_EQ(counted.undecodable[direction][reason], losses_.undecodable[direction][reason])
                << "undecodable, direction " << direction << " reason " << reason;
    }
    for (int reason = 0; reason < TRAFFIC_LOSS_REASONS; ++reason)
        EXPECT_EQ(counted.loss[reason], losses_.loss[reason]) << "loss reason " << reason;
}

}  // namespace pangolin::test
