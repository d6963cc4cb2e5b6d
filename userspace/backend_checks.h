// What Pangolin's own health checks say of backends.
#pragma once

#include <memory>
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
        std::shared_ptr<BackendAccount> backend;
        // Null for a local site, which has no tunnel.
        std::shared_ptr<const SiteAccount> tunnel;
        bool healthy = false;
    };
    std::vector<Check> checks_;
};

}  // namespace pangolin
