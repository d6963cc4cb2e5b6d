// The source of sites and resources that the configuration selects.
#pragma once

#include <memory>

#include "exporter/configuration.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// Nothing is opened yet. Beside a sites.yml Traefik's API, where it is set, adds the resources if the file
// lists none; a database has all that Traefik would say. `also` has a database read what it wants.
std::unique_ptr<SiteSource> make_site_source(const MetadataConfiguration& metadata,
                                             const TraefikConfiguration& traefik,
                                             std::shared_ptr<DatabaseReading> also = nullptr);

}  // namespace pangolin
