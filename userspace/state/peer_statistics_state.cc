#include "userspace/state/peer_statistics_state.h"

#include <algorithm>

namespace pangolin {

TcpCredit to_credit(const SlotTcpCounts& counts) {
    TcpCredit credit;
    credit.slot = counts.slot;
    credit.retransmits = counts.counts.retransmits;
    credit.round_trips_us = counts.counts.rtt.sum_us;
    std::ranges::copy(counts.counts.connections, credit.connections.begin());
    for (std::uint8_t bucket = 0; bucket < LATENCY_BUCKETS; ++bucket) {
        if (const std::uint64_t count = counts.counts.rtt.bucket[bucket]; count != 0)
            credit.buckets.emplace_back(bucket, count);
    }
    return credit;
}

SlotTcpCounts from_credit(const TcpCredit& credit) {
    SlotTcpCounts counts;
    counts.slot = credit.slot;
    std::ranges::copy(credit.connections, counts.counts.connections);
    counts.counts.retransmits = credit.retransmits;
    counts.counts.rtt.sum_us = credit.round_trips_us;
    for (const auto& [bucket, count] : credit.buckets) {
        if (bucket < LATENCY_BUCKETS)
            counts.counts.rtt.bucket[bucket] = count;
    }
    return counts;
}

}  // namespace pangolin
