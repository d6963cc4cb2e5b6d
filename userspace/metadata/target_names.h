// Targets that Pangolin knows by name ("http://nginx:80"): the addresses that Traefik dials for them.
#pragma once

#include <string>

#include "userspace/metadata/foreign_lookup.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// Not thread-safe.
class TargetNames {
  public:
    // Fills Target::resolved, as every running Traefik resolves the name; takes a second at most when name
    // servers do not answer, and nothing when no target has a name. Without an answer, or a Traefik, the last
    // addresses stay. Trouble is logged once.
    void resolve(SiteDirectory& directory);

  private:
    void look_up(const std::set<std::string>& names);
    void warn_once(const std::string& trouble);

    AddressesByName known_;
    std::string trouble_;
};

}  // namespace pangolin
