#include "userspace/state/ledger_state.h"

#include <concepts>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

using Labels = std::vector<std::string_view>;

// The labels of accounts that the directory leads to.
struct LiveAccounts {
    std::set<Labels> of_targets;
    std::set<std::string_view> clients;
    // Keeps what the labels point into.
    std::vector<std::string> backends;

    LiveAccounts(const SiteDirectory& directory, std::span<const SocketTargetState> watched) {
        for (const SocketTargetState& target : watched) {
            of_targets.insert({target.site_id, target.resource_id});
            of_targets.insert({target.site_id, target.resource_id, target.backend});
            of_targets.insert({target.backend, target.site_id});
        }
        backends.reserve(directory.targets.size());
        for (const Target& target : directory.targets) {
            const std::string_view site_id =
                target.site ? std::string_view(directory.sites[*target.site].site_id) : unassigned_site_id;
            const std::string_view resource_id = directory.resources[target.resource].resource_id;
            of_targets.insert({site_id, resource_id});
            if (!target.dialled)
                continue;
            const std::string_view backend = backends.emplace_back(target.dialled->to_string());
            of_targets.insert({site_id, resource_id, backend});
            of_targets.insert({backend, site_id});
        }
        for (const Client& client : directory.clients)
            clients.insert(client.client_id);
    }
};

Labels labels_of(const ResourceAccount& account) {
    return {account.labels->site_id, account.labels->resource_id};
}

Labels labels_of(const TargetAccount& account) {
    return {account.labels->site_id, account.labels->resource_id, account.labels->backend};
}

// The other way round than those of a resource, of which there may be one of the same name.
Labels labels_of(const BackendAccount& account) {
    return {account.labels->backend, account.labels->site_id};
}

void write_resources(ArchiveWriter& writer, ResourceLedger& ledger, const LiveAccounts* live) {
    ledger.for_each([&]<class Account>(const Account& account) {
        if (live != nullptr && !live->of_targets.contains(labels_of(account)))
            return;
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
        reader(ledger.of(site_id, resource_id));
    else if (kind == StateBlock::target)
        reader(ledger.target(site_id, resource_id, backend));
    else
        reader(ledger.backend(site_id, backend));
}

}  // namespace

void write_ledger(ArchiveWriter& writer, Ledger& ledger, const SiteDirectory* directory,
                  std::span<const SocketTargetState> watched) {
    std::optional<LiveAccounts> live;
    if (directory != nullptr)
        live.emplace(*directory, watched);
    ledger.sites.for_each([&](const SiteAccount& account) {
        write_account(writer, StateBlock::site, account, std::string(account.site_id));
    });
    for (const auto& [client_id, traffic] : ledger.clients) {
        if (!live || live->clients.contains(client_id))
            write_account(writer, StateBlock::client, traffic, client_id);
    }
    write_resources(writer, ledger.resources, live ? &*live : nullptr);
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
                reader(ledger.sites.of(name));
            return true;
        case StateBlock::client:
            reader(name);
            if (reader.ok())
                reader(ledger.clients[name]);
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
