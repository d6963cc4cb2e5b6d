#include "userspace/state/ledger_state.h"

#include <concepts>
#include <string>

#include "userspace/state/http_state.h"

namespace pangolin {

// Found by the archives, for what is a private affair of each type elsewhere.

template <class Archive>
void fields(Archive& archive, PacketDrops& drops) {
    archive(drops.direction, drops.reason, drops.packets);
}

template <class Archive>
void fields(Archive& archive, SiteHealth& health) {
    archive(health.handshakes, health.reconnects, health.connection_drops, health.handshake_latency,
            health.tunnel_latency, health.tcp_connections, health.tcp_retransmits, health.packet_drops);
}

template <class Archive>
void fields(Archive& archive, SiteAccount& account) {
    archive(account.traffic, account.relay, account.tunnel_receive_bytes, account.tunnel_transmit_bytes,
            account.had_peer, account.uptime_seconds, account.was_up_, account.settled_up_, account.key_);
    bool has_health = account.health_ != nullptr;
    archive(has_health);
    if (!has_health)
        return;
    // Writing does not part what snapshots share.
    if constexpr (std::same_as<Archive, ArchiveReader>)
        archive(account.health());
    else
        archive(*account.health_);
}

template <class Archive>
void fields(Archive& archive, ResourceAccount& account) {
    archive(account.counted, account.traffic);
}

template <class Archive>
void fields(Archive& archive, TargetAccount& account) {
    archive(account.errors, account.http);
}

template <class Archive>
void fields(Archive& archive, BackendAccount& account) {
    archive(account.errors, account.response_sizes);
}

namespace {

template <class Account, class... Labels>
void write_account(ArchiveWriter& writer, StateBlock kind, const Account& account, const Labels&... labels) {
    writer.block(static_cast<std::uint32_t>(kind), [&](ArchiveWriter& block) { block(labels..., account); });
}

void write_resources(ArchiveWriter& writer, const ResourceLedger& ledger) {
    ledger.for_each([&]<class Account>(const Account& account) {
        const auto& labels = *account.labels;
        if constexpr (std::same_as<Account, ResourceAccount>)
            write_account(writer, StateBlock::resource, account, labels.site_id, labels.resource_id);
        else if constexpr (std::same_as<Account, TargetAccount>)
            write_account(writer, StateBlock::target, account, labels.site_id, labels.resource_id,
                          labels.backend);
        else
            write_account(writer, StateBlock::backend, account, labels.site_id, labels.backend);
    });
}

void read_resources(StateBlock kind, ArchiveReader& reader, ResourceLedger& ledger) {
    std::string site_id;
    std::string resource_id;
    std::string backend;
    reader(site_id);
    if (kind != StateBlock::backend)
        reader(resource_id);
    if (kind != StateBlock::resource)
        reader(backend);
    if (!reader.ok())
        return;
    if (kind == StateBlock::resource)
        reader(*ledger.of(site_id, resource_id));
    else if (kind == StateBlock::target)
        reader(*ledger.target(site_id, resource_id, backend));
    else
        reader(*ledger.backend(site_id, backend));
}

}  // namespace

void write_ledger(ArchiveWriter& writer, const Ledger& ledger) {
    ledger.sites.for_each([&](const SiteAccount& account) {
        write_account(writer, StateBlock::site, account, account.site_id);
    });
    ledger.clients.for_each([&](const ClientAccount& account) {
        write_account(writer, StateBlock::client, account.traffic, account.client_id);
    });
    write_resources(writer, ledger.resources);
    writer.block(static_cast<std::uint32_t>(StateBlock::tunnel_readings), [&](ArchiveWriter& block) {
        for (const auto& [key, reading] : ledger.sites.kept_readings())
            block(key, reading);
    });
}

bool read_ledger_block(StateBlock kind, ArchiveReader& reader, Ledger& ledger) {
    std::string name;
    switch (kind) {
        case StateBlock::site:
            reader(name);
            if (reader.ok())
                reader(*ledger.sites.of(name));
            return true;
        case StateBlock::client:
            reader(name);
            if (reader.ok())
                reader(ledger.client(name)->traffic);
            return true;
        case StateBlock::resource:
        case StateBlock::target:
        case StateBlock::backend:
            read_resources(kind, reader, ledger.resources);
            return true;
        case StateBlock::tunnel_readings:
            while (reader.ok() && !reader.at_end()) {
                WireGuardKey key;
                TunnelReading reading;
                reader(key, reading);
                if (reader.ok())
                    ledger.sites.keep_reading(key, reading);
            }
            return true;
        default:
            return false;
    }
}

}  // namespace pangolin
