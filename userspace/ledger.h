// All accounts: what has been counted since the exporter's start, by whose it is.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "bpf/shared/traffic.h"
#include "userspace/account_table.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/resource_ledger.h"
#include "userspace/site_ledger.h"

namespace pangolin {

// Of a client that was seen as a peer.
struct ClientAccount {
    std::string client_id;
    // Inner IP packets and bytes.
    traffic_counts traffic{};
};

inline std::array<std::string_view, 1> labels_of(const ClientAccount& account) {
    return {account.client_id};
}

// Not thread-safe.
struct Ledger {
    SiteLedger sites;
    ResourceLedger resources;
    AccountTable<1, ClientAccount> clients;

    std::shared_ptr<ClientAccount> client(std::string_view client_id);

    // See SiteLedger.
    void begin_poll() {
        sites.begin_poll();
        resources.begin_poll();
    }
    void end_poll(std::chrono::steady_clock::time_point now) {
        sites.end_poll(now);
        resources.end_poll(now);
    }

    // Forgets what neither `directory` has any more nor anybody holds, once that was so for a while and its
    // totals have been published (account_lifetime). To be called now and then.
    void forget_unused(const SiteDirectory& directory, const AccountReview& review);
};

}  // namespace pangolin
