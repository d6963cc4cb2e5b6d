// What Pangolin's own health checks say of backends.
#pragma once

#include <vector>

#include "userspace/ledger.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// Not thread-safe.
class BackendChecks {
  public:
    // Replaces those of the directory before.
    void follow(const SiteDirectory& directory, Ledger& ledger);
    // In a poll, once it is known which sites are up: a newt whose tunnel is down cannot have checked.
    void apply() const;

  private:
    struct Check {
        BackendAccount* backend = nullptr;
        // Null for a local site, which has no tunnel.
        const SiteAccount* tunnel = nullptr;
        bool healthy = false;
    };
    std::vector<Check> checks_;
};

}  // namespace pangolin
