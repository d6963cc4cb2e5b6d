#include "exporter/configuration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "exporter/configuration_schema.h"
#include "loader/base/number.h"
#include "userspace/metadata/yaml_reader.h"

namespace pangolin {
namespace {

std::string folder_of(const std::string& file) {
    const std::string folder = std::filesystem::path(file).parent_path().string();
    return folder.empty() ? "." : folder;
}

// The first of `paths` that is there. One that cannot be looked at is taken for there: opening it says why.
std::optional<std::string> first_existing(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
        struct stat status{};
        if (::stat(path.c_str(), &status) == 0 || (errno != ENOENT && errno != ENOTDIR))
            return path;
    }
    return std::nullopt;
}

// The value of a key of Pangolin's, or a null node. Nothing here is a problem: the file's other parts are not
// ours.
YAML::Node value_of(const YAML::Node& mapping, std::string_view key) {
    if (mapping.IsMap())
        for (const auto& entry : mapping)
            if (entry.first.IsScalar() && entry.first.Scalar() == key)
                return entry.second;
    return {};
}

void read_port(const YAML::Node& server, std::string_view key, std::uint16_t& port) {
    const YAML::Node value = value_of(server, key);
    if (!value.IsScalar())
        return;
    if (const auto number = parse_number<std::uint16_t>(value.Scalar()); number && *number > 0)
        port = *number;
}

PangolinSettings read_pangolin_settings(const YAML::Node& document) {
    PangolinSettings settings;
    if (const char* text = std::getenv("POSTGRES_CONNECTION_STRING"); text != nullptr)
        settings.postgres_connection_string = text;
    if (const YAML::Node text = value_of(value_of(document, "postgres"), "connection_string");
        text.IsScalar() && settings.postgres_connection_string.empty())
        settings.postgres_connection_string = text.Scalar();
    const YAML::Node server = value_of(document, "server");
    read_port(server, "external_port", settings.external_port);
    read_port(server, "internal_port", settings.internal_port);
    read_port(server, "next_port", settings.next_port);
    read_port(server, "integration_port", settings.integration_port);
    return settings;
}

// Without a file the rest is looked for where Pangolin's installer puts it: beside the first database found.
LoadedConfiguration defaults(const std::vector<std::string>& search) {
    std::string folder = search.empty() ? "." : folder_of(search.back());
    for (const std::string& path : search)
        if (first_existing({default_database(folder_of(path))})) {
            folder = folder_of(path);
            break;
        }
    YamlProblems problems("");
    LoadedConfiguration loaded;
    loaded.configuration =
        read_metrics_section(YamlMapping({}, "metrics", problems), folder, read_pangolin_settings({}))
            .configuration;
    loaded.summary = fmt::format("no configuration file ({}): the defaults hold", fmt::join(search, ", "));
    return loaded;
}

Result<LoadedConfiguration> load_file(const std::string& file) {
    const auto text = read_text_file(file);
    if (!text)
        return std::unexpected(text.error());
    const auto document = parse_yaml(*text, file);
    if (!document)
        return std::unexpected(document.error());
    YamlProblems problems(file);
    YamlMapping root(*document, "", problems);
    MetricsSection section =
        read_metrics_section(root.mapping("metrics"), folder_of(file), read_pangolin_settings(*document));
    if (auto result = problems.result(); !result)
        return std::unexpected(result.error());
    LoadedConfiguration loaded;
    if (!root.contains("metrics")) {
        loaded.summary = fmt::format("metrics are switched off: {} has no section 'metrics'", file);
    } else if (!section.enabled) {
        loaded.summary = fmt::format("metrics are switched off: metrics.enabled is false in {}", file);
    } else {
        loaded.configuration = std::move(section.configuration);
        loaded.summary = fmt::format("configuration read from {}", file);
    }
    return loaded;
}

}  // namespace

const std::vector<std::string>& default_configuration_paths() {
    static const std::vector<std::string> paths{"./config/config.yml", "./config.yml",
                                                "/opt/pangolin/config/config.yml"};
    return paths;
}

Result<LoadedConfiguration> load_configuration(const std::optional<std::string>& file,
                                               const std::vector<std::string>& search) {
    const auto found = file ? file : first_existing(search);
    return found ? load_file(*found) : defaults(search);
}

}  // namespace pangolin
