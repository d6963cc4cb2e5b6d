// All accounts: what has been counted since the exporter's start, by whose it is.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "bpf/shared/traffic.h"
#include "userspace/resource_ledger.h"
#include "userspace/site_ledger.h"

namespace pangolin {

// Not thread-safe. References into it stay valid for its life.
struct Ledger {
    SiteLedger sites;
    ResourceLedger resources;
    // Inner IP packets and bytes by client_id, of clients that were seen as peers.
    std::map<std::string, traffic_counts, std::less<>> clients;

    // See SiteLedger.
    void begin_poll() {
        sites.begin_poll();
        resources.begin_poll();
    }
    void end_poll(std::chrono::steady_clock::time_point now) {
        sites.end_poll(now);
        resources.end_poll(now);
    }
};

}  // namespace pangolin
