#include "userspace/tcp_accounting.h"

#include <cstring>

namespace pangolin {
namespace {

void add_growth(const tcp_counts& now, const tcp_counts& before, SiteAccount& account,
                std::chrono::steady_clock::time_point time) {
    SiteHealth& health = account.health();
    for (int result = 0; result < TCP_RESULTS; ++result)
        health.tcp_connections[result] += now.connections[result] - before.connections[result];
    health.tcp_retransmits += now.retransmits - before.retransmits;
    if (now.rtt.sum_us != before.rtt.sum_us)
        account.last_tcp_latency = time;
    health.tunnel_latency.add_growth(now.rtt, before.rtt);
}

}  // namespace

void TcpAccounting::credit(std::span<const SlotTcpCounts> counts, const SlotAccounts& accounts,
                           std::chrono::steady_clock::time_point now) {
    for (const auto& [slot, grown] : counts) {
        SiteAccount* const account = accounts(slot);
        if (account == nullptr)
            continue;
        tcp_counts& before = credited_[slot];
        if (std::memcmp(&before, &grown, sizeof before) == 0)
            continue;
        add_growth(grown, before, *account, now);
        before = grown;
    }
}

std::vector<TcpCredit> TcpAccounting::save() const {
    std::vector<TcpCredit> credited;
    credited.reserve(credited_.size());
    for (const auto& [slot, counts] : credited_)
        credited.push_back(to_credit({slot, counts}));
    return credited;
}

void TcpAccounting::restore(const std::vector<TcpCredit>& credited) {
    for (const TcpCredit& each : credited)
        credited_[each.slot] = from_credit(each).counts;
}

}  // namespace pangolin
