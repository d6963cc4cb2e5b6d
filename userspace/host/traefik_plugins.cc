#include "userspace/host/traefik_plugins.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <utility>

#include "loader/base/letter_case.h"
#include "loader/files.h"
#include "loader/process_table.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

constexpr std::size_t largest_configuration = 1 << 20;
constexpr std::size_t longest_name = 64;
constexpr std::string_view storage = "plugins-storage/sources";

YAML::Node member(const YAML::Node& mapping, std::string_view key) {
    if (mapping.IsMap())
        for (const auto& entry : mapping)
            if (entry.first.IsScalar() && equal_ignoring_case(entry.first.Scalar(), key))
                return entry.second;
    return {};
}

void add(std::vector<TraefikPlugin>& plugins, std::string_view name, const std::string& module) {
    if (!name.empty() && name.size() <= longest_name && !module.empty() && plugins.size() < most_plugins)
        plugins.push_back({valid_utf8(name), module});
}

std::vector<std::string> arguments_of(pid_t pid) {
    std::vector<std::string> arguments;
    const std::string text = read_small_file(process_path(pid, "cmdline"));
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\0', begin), text.size());
        arguments.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return arguments;
}

// "--NAME=VALUE", with one dash or two: the value when the name begins with `name`, and what follows it.
struct Option {
    std::string rest;
    std::string value;
};
std::optional<Option> option(std::string_view argument, std::string_view name) {
    while (argument.starts_with('-'))
        argument.remove_prefix(1);
    const std::size_t equals = argument.find('=');
    const std::string_view key = argument.substr(0, equals);
    if (key.size() < name.size() || !equal_ignoring_case(key.substr(0, name.size()), name))
        return std::nullopt;
    return Option{std::string(key.substr(name.size())),
                  equals == std::string_view::npos ? "" : std::string(argument.substr(equals + 1))};
}

std::string configuration_file(const std::vector<std::string>& arguments, const ProcessFiles& files) {
    for (std::size_t i = 0; i < arguments.size(); ++i)
        if (const auto found = option(arguments[i], "configfile"); found && found->rest.empty())
            return found->value.empty() && i + 1 < arguments.size() ? arguments[i + 1] : found->value;
    for (const char* path :
         {"/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "traefik.yml", "traefik.yaml"})
        if (files.exists(path))
            return path;
    return {};
}

}  // namespace

std::vector<TraefikPlugin> plugins_in_configuration(const std::string& yaml) {
    std::vector<TraefikPlugin> plugins;
    try {
        const YAML::Node configured = member(member(YAML::Load(yaml), "experimental"), "plugins");
        if (configured.IsMap())
            for (const auto& entry : configured)
                if (const YAML::Node module = member(entry.second, "moduleName");
                    module.IsScalar() && entry.first.IsScalar())
                    add(plugins, entry.first.Scalar(), module.Scalar());
    } catch (const YAML::Exception&) {
        // Traefik would not start with it.
        plugins.clear();
    }
    return plugins;
}

std::vector<TraefikPlugin> plugins_in_arguments(const std::vector<std::string>& arguments) {
    constexpr std::string_view module = ".modulename";
    std::vector<TraefikPlugin> plugins;
    for (const std::string& argument : arguments) {
        const auto found = option(argument, "experimental.plugins.");
        if (!found || found->rest.size() <= module.size())
            continue;
        const std::string_view rest = found->rest;
        const std::size_t name = rest.size() - module.size();
        if (equal_ignoring_case(rest.substr(name), module))
            add(plugins, rest.substr(0, name), found->value);
    }
    return plugins;
}

std::vector<TraefikPlugin> configured_plugins(pid_t pid, const ProcessFiles& files) {
    const std::vector<std::string> arguments = arguments_of(pid);
    const std::string file = configuration_file(arguments, files);
    // Traefik takes one source of its static configuration alone, the file first.
    if (!file.empty())
        return plugins_in_configuration(files.read(file, largest_configuration));
    return plugins_in_arguments(arguments);
}

PluginState plugin_state(const ProcessFiles& files, const TraefikPlugin& plugin) {
    bool found = false;
    bool unpacking = false;
    for (const std::string& name : files.list(std::string(storage), found)) {
        if (!name.starts_with("gop-"))
            continue;
        unpacking = true;
        if (files.exists(std::string(storage) + "/" + name + "/src/" + plugin.module + "/.traefik.yml"))
            return PluginState::fetched;
    }
    return found && !unpacking ? PluginState::failed : PluginState::pending;
}

}  // namespace pangolin
