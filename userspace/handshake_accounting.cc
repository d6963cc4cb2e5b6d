#include "userspace/handshake_accounting.h"

#include <algorithm>
#include <bit>

namespace pangolin {
namespace {

handshake_identity identity_of(const std::array<std::uint8_t, 32>& public_key) {
    handshake_identity identity{};
    identity.kind = HANDSHAKE_PUBLIC_KEY;
    std::ranges::copy(public_key, identity.public_key);
    return identity;
}

Endpoint endpoint_of(const peer_endpoint& endpoint) {
    return {{endpoint.is_v6 != 0 ? IpFamily::v6 : IpFamily::v4, endpoint.address.high, endpoint.address.low},
            static_cast<std::uint16_t>(endpoint.port)};
}

}  // namespace

void HandshakeAccounting::learn(const Endpoint& endpoint, const WireGuardKey& key, const PeerTable& peers) {
    // What peers have left must not pile up for years.
    if (endpoints_.size() >= max_endpoints_) {
        std::erase_if(endpoints_, [&](const auto& known) {
            const TrackedPeer* const peer = peers.find(known.second);
            return peer == nullptr || peer->endpoint != known.first;
        });
    }
    endpoints_[endpoint] = key;
}

void HandshakeAccounting::take(const std::vector<handshake>& handshakes,
                               const std::vector<HandshakeCount>& counts,
                               std::chrono::steady_clock::time_point now) {
    for (const handshake& ended : handshakes) {
        Outcome outcome{ended.identity, static_cast<handshake_result>(ended.result), 1, {}, now};
        if (ended.result == HANDSHAKE_SUCCESS)
            outcome.latency_us = (ended.end_ns - ended.begin_ns) / 1000;
        waiting_.push_back(outcome);
    }
    for (const HandshakeCount& count : counts)
        waiting_.push_back({count.identity, count.result, count.count, {}, now});
}

void HandshakeAccounting::take(WireGuardProbe& probe, std::chrono::steady_clock::time_point now) {
    take(probe.take_handshakes(), probe.take_counts(), now);
    for (const QueueDrops& drops : probe.take_queue_drops())
        waiting_.push_back({identity_of(drops.public_key), {}, drops.packets, {}, now});
}

void HandshakeAccounting::take(const LastHandshakes& last) {
    take(last.handshakes, last.counts, std::chrono::steady_clock::now());
}

SiteAccount* HandshakeAccounting::account_of(const handshake_identity& identity, PeerTable& peers) const {
    WireGuardKey key;
    if (identity.kind == HANDSHAKE_PUBLIC_KEY) {
        std::ranges::copy(identity.public_key, key.bytes.begin());
    } else {
        const auto known = endpoints_.find(endpoint_of(identity.endpoint));
        if (known == endpoints_.end())
            return nullptr;
        key = known->second;
    }
    const TrackedPeer* const peer = peers.find(key);
    return peer == nullptr ? nullptr : peer->account.get();
}

void HandshakeAccounting::credit(WireGuardProbe& probe, PeerTable& peers, SiteLedger& ledger,
                                 bool sites_known, std::chrono::steady_clock::time_point now) {
    take(probe, now);
    credit_waiting(peers, ledger,
                   sites_known ? std::chrono::nanoseconds(waiting_time) : std::chrono::nanoseconds::max(),
                   now);
}

void HandshakeAccounting::credit_waiting(PeerTable& peers, SiteLedger& ledger,
                                         std::chrono::nanoseconds patience,
                                         std::chrono::steady_clock::time_point now) {
    const auto unassigned = ledger.of(unassigned_site_id);
    std::erase_if(waiting_, [&](const Outcome& outcome) {
        SiteAccount* account = nullptr;
        if (outcome.identity.kind != HANDSHAKE_NOBODY) {
            account = account_of(outcome.identity, peers);
            if (account == nullptr && now - outcome.since < patience)
                return false;
        }
        if (account == nullptr)
            account = unassigned.get();
        SiteHealth& health = account->health();
        if (!outcome.result) {
            health.add_drops(TRAFFIC_EGRESS, "wireguard_queue_full", outcome.count);
            return true;
        }
        health.handshakes[*outcome.result] += outcome.count;
        if (outcome.latency_us) {
            health.handshake_latency.observe(*outcome.latency_us);
            if (!account->last_tcp_latency || now - *account->last_tcp_latency > tcp_silence)
                health.tunnel_latency.observe(*outcome.latency_us);
        }
        return true;
    });
}

void HandshakeAccounting::finish(PeerTable& peers, SiteLedger& ledger) {
    credit_waiting(peers, ledger, std::chrono::nanoseconds::min(), std::chrono::steady_clock::now());
}

void HandshakeAccounting::save(HandshakeState& state) const {
    for (const Outcome& outcome : waiting_) {
        WaitingHandshake& waiting = state.waiting.emplace_back();
        waiting.identity = std::bit_cast<decltype(waiting.identity)>(outcome.identity);
        waiting.result = outcome.result;
        waiting.count = outcome.count;
        waiting.latency_us = outcome.latency_us;
    }
    state.endpoints.assign(endpoints_.begin(), endpoints_.end());
}

void HandshakeAccounting::restore(const HandshakeState& state) {
    const auto now = std::chrono::steady_clock::now();
    for (const WaitingHandshake& waiting : state.waiting) {
        Outcome outcome{
            std::bit_cast<handshake_identity>(waiting.identity), {}, waiting.count, waiting.latency_us, now};
        if (waiting.result && *waiting.result < HANDSHAKE_RESULTS)
            outcome.result = static_cast<handshake_result>(*waiting.result);
        waiting_.push_back(outcome);
    }
    endpoints_.insert(state.endpoints.begin(), state.endpoints.end());
}

}  // namespace pangolin
