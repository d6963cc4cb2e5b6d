// What has been counted for each resource, whatever becomes of its targets.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/shared/traffic.h"

namespace pangolin {

struct ResourceLabels {
    std::string site_id;
    std::string resource_id;
};

// Of one resource at one site, over all its targets there, past and present. Totals only grow; the other
// values are of the poll that is going on or was last.
struct ResourceAccount {
    std::shared_ptr<const ResourceLabels> labels;
    // Some target of it was once where its packets are counted: a total of 0 is an observation.
    bool counted = false;
    // Inner IP packets and bytes to and from the targets behind tunnels. For those of local sites the bytes
    // are TCP payload, without packets.
    target_counts traffic{};
    // UDP flows of the last minute; none for a resource without UDP targets behind tunnels.
    std::optional<std::uint64_t> udp_flows;
};

// Not thread-safe. References that it returns stay valid for the ledger's life.
class ResourceLedger {
  public:
    ResourceAccount& of(std::string_view site_id, std::string_view resource_id);

    // Forgets what is not a total.
    void begin_poll();

    // In the order of site_id and resource_id.
    std::vector<ResourceAccount> resources() const;

  private:
    // Keys point into the accounts' labels.
    std::map<std::array<std::string_view, 2>, ResourceAccount> resources_;
};

}  // namespace pangolin
