// The source of sites that the configuration selects.
#pragma once

#include <memory>

#include "exporter/configuration.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// Nothing is opened yet. A kind that this version cannot read is a source whose every read() fails and says
// why, so that it shows in the log, in `check` and in pangolin_exporter_source_up like any other failure.
std::unique_ptr<SiteSource> make_site_source(const MetadataConfiguration& metadata);

}  // namespace pangolin
