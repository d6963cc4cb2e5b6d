// The keys of the section `metrics` and what they may hold.
#pragma once

#include <string>
#include <vector>

#include "exporter/configuration.h"
#include "userspace/metadata/yaml_reader.h"

namespace pangolin {

struct MetricsSection {
    bool enabled = true;
    Configuration configuration;
};

// Reads `metrics`; `folder` is the file's, for relative paths. `pangolin` is what the rest of the file says.
// Problems are left with the mapping's YamlProblems, and the result then means nothing.
MetricsSection read_metrics_section(YamlMapping metrics, const std::string& folder,
                                    const PangolinSettings& pangolin);

// Path of Pangolin's database in the folder of its config.yml.
std::string default_database(const std::string& folder);

// `path`, seen from `folder` unless it is absolute or empty.
std::string resolve_path(const std::string& folder, const std::string& path);

}  // namespace pangolin
