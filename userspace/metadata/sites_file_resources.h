// The resources in a sites.yml.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/yaml_reader.h"

namespace pangolin {

// Collects the resources of one document. A resource that several sites serve is listed under each of them;
// what one entry leaves out another may say. An entry with a port is a target.
class SitesFileResources {
  public:
    // One entry of the list `resources` of `site`, whose tunnel is known already.
    void read(YamlMapping& mapping, const Site& site);
    // Adds what was read to `directory`, whose sites are in their order.
    void finish(SiteDirectory& directory);

  private:
    struct Entry {
        Resource resource;
        // The first entry's, for messages.
        int line = 0;
        bool has_name = false;
        bool has_protocol = false;
    };
    struct Listed {
        std::string resource_id;
        std::string site_id;
        TargetAddress address;
    };

    Entry& merge(YamlMapping& mapping, const std::string& resource_id);
    void read_target(YamlMapping& mapping, const Site& site, const std::string& resource_id);

    // By resource_id.
    std::map<std::string, Entry> entries_;
    std::vector<Listed> targets_;
    std::set<std::tuple<std::string, std::string, TargetAddress>> seen_;
};

}  // namespace pangolin
