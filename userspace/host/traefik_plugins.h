// Plugins of a running Traefik: which it was told to fetch, and whether it did.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/host/process_files.h"

namespace pangolin {

struct TraefikPlugin {
    // The name in Traefik's configuration, the label `plugin`.
    std::string name;
    // "github.com/fosrl/badger".
    std::string module;
    bool operator==(const TraefikPlugin&) const = default;
};

// Names come from a file that a container may write: so many of them are taken.
inline constexpr std::size_t most_plugins = 32;

// `experimental.plugins` of Traefik's static configuration in YAML, or of its arguments; keys are compared
// without regard to case, as Traefik does.
std::vector<TraefikPlugin> plugins_in_configuration(const std::string& yaml);
std::vector<TraefikPlugin> plugins_in_arguments(const std::vector<std::string>& arguments);

// What a process's arguments and the file that they name say. Its file is the one after --configFile, else
// the first that exists of those that Traefik looks for.
std::vector<TraefikPlugin> configured_plugins(pid_t pid, const ProcessFiles& files);

enum class PluginState : std::uint8_t { pending, fetched, failed };

// By what Traefik (pkg/plugins, client.go or downloader.go and manager.go) leaves in ./plugins-storage: at
// its start it makes sources/gop-* anew, fetches all plugins, unpacks each there, and removes all of it when
// one fails.
PluginState plugin_state(const ProcessFiles& files, const TraefikPlugin& plugin);

}  // namespace pangolin
