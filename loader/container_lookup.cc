#include "loader/container_lookup.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "loader/files.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

using Json = nlohmann::json;

constexpr std::size_t id_length = 64;
constexpr std::size_t largest_json = 16 << 20;

// A container as an engine describes it. `pid` is 0 when it does not run or the engine does not say.
struct Described {
    std::string id;
    std::string name;
    pid_t pid = 0;
};

std::string string_field(const Json& object, const char* key) {
    const auto field = object.find(key);
    return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

Json parse_json(const std::string& text, const Json::parser_callback_t& filter = nullptr) {
    // Files are replaced while they are read: what does not parse is not there.
    const Json json = Json::parse(text, filter, false);
    return json.is_discarded() ? Json() : json;
}

// Reads only what is needed of a container's config.v2.json: its "Config" holds the application's secrets.
std::optional<Described> read_docker_container(const std::string& docker, const std::string& id) {
    const auto filter = [](int depth, Json::parse_event_t event, Json& parsed) {
        return event != Json::parse_event_t::key || depth != 1 || parsed == "Name" || parsed == "State";
    };
    const Json json =
        parse_json(read_small_file(docker + "/containers/" + id + "/config.v2.json", largest_json), filter);
    if (!json.is_object())
        return std::nullopt;
    Described container{id, string_field(json, "Name"), 0};
    // Docker writes "/gerbil".
    if (container.name.starts_with('/'))
        container.name.erase(0, 1);
    if (const auto state = json.find("State"); state != json.end() && state->is_object()) {
        const auto pid = state->find("Pid");
        if (pid != state->end() && pid->is_number_unsigned())
            container.pid = pid->get<pid_t>();
    }
    return container;
}

std::vector<Described> docker_containers(const ContainerFolders& folders) {
    std::vector<Described> containers;
    for (const std::string& docker : folders.docker) {
        for (const std::string& id : names_in_folder(docker + "/containers")) {
            if (auto container = read_docker_container(docker, id))
                containers.push_back(std::move(*container));
        }
    }
    return containers;
}

void read_podman_containers(const std::string& path, std::vector<Described>& containers) {
    const Json json = parse_json(read_small_file(path, largest_json));
    if (!json.is_array())
        return;
    for (const Json& entry : json) {
        if (!entry.is_object())
            continue;
        const auto names = entry.find("names");
        if (names != entry.end() && names->is_array() && !names->empty() && names->front().is_string())
            containers.push_back({string_field(entry, "id"), names->front().get<std::string>(), 0});
    }
}

// In Podman's storage and run-time folders, by storage driver: "overlay-containers", "vfs-containers".
std::vector<std::string> folders_of_drivers(const std::string& folder) {
    std::vector<std::string> names = names_in_folder(folder);
    std::erase_if(names, [](const std::string& name) { return !name.ends_with("-containers"); });
    return names;
}

std::vector<Described> podman_containers(const ContainerFolders& folders) {
    std::vector<Described> containers;
    for (const std::string& driver : folders_of_drivers(folders.podman_storage)) {
        // Containers that are removed when they end (--rm) are in the second file.
        for (const char* file : {"/containers.json", "/volatile-containers.json"})
            read_podman_containers((folders.podman_storage + "/").append(driver).append(file), containers);
    }
    return containers;
}

bool is_in_container(pid_t pid, const std::string& id) {
    return container_id_in_cgroup(read_small_file(process_path(pid, "cgroup"))) == id;
}

// Podman's first process: from its pid file, else the lowest process in the container's cgroup.
pid_t podman_process(const ContainerFolders& folders, const std::string& id) {
    for (const std::string& driver : folders_of_drivers(folders.podman_run)) {
        const std::string text = read_small_file(
            (folders.podman_run + "/").append(driver).append("/" + id + "/userdata/pidfile"), 32);
        pid_t pid = 0;
        std::from_chars(text.data(), text.data() + text.size(), pid);
        if (pid > 0 && is_in_container(pid, id))
            return pid;
    }
    const std::vector<pid_t> processes = list_processes();
    const auto found = std::ranges::find_if(processes, [&](pid_t each) { return is_in_container(each, id); });
    return found == processes.end() ? 0 : *found;
}

Result<RunningContainer> running(const Described& container, bool confirmed) {
    // What is on disk may be of before a crash; the cgroup of the process is the truth.
    if (container.pid > 0 && (confirmed || is_in_container(container.pid, container.id))) {
        if (const auto start_time = process_start_time(container.pid))
            return RunningContainer{container.pid, *start_time};
    }
    return failure("container '" + container.name + "' is not running",
                   "Start it; it is found as soon as it runs.", ESRCH);
}

bool is_forbidden(const std::string& path) {
    return access(path.c_str(), R_OK) != 0 && errno == EACCES;
}

std::unexpected<Error> unknown_container(std::string_view name, const std::vector<Described>& known,
                                         const ContainerFolders& folders) {
    const bool forbidden = is_forbidden(folders.podman_storage) ||
                           std::ranges::any_of(folders.docker, [](const std::string& docker) {
                               return is_forbidden(docker + "/containers");
                           });
    std::string hint =
        "No container of Docker or Podman (run by root) can be seen; is the exporter allowed to read "
        "/var/lib/docker and /var/lib/containers? 'pid:N' and 'auto' need neither.";
    if (!known.empty()) {
        hint = "Known containers: ";
        for (const Described& container : known)
            hint += (&container == known.data() ? "" : ", ") + container.name;
        hint += ".";
    }
    return failure("there is no container '" + std::string(name) + "'", std::move(hint),
                   forbidden ? EACCES : ENOENT);
}

}  // namespace

bool RunningContainer::still_running() const {
    return process_start_time(pid) == start_time;
}

ContainerFolders ContainerFolders::defaults() {
    ContainerFolders folders{{"/var/lib/docker", "/var/snap/docker/common/var-lib-docker"},
                             "/var/lib/containers/storage",
                             "/run/containers/storage"};
    const Json daemon = parse_json(read_small_file("/etc/docker/daemon.json"));
    if (daemon.is_object()) {
        const std::string moved = string_field(daemon, "data-root");
        if (!moved.empty())
            folders.docker.insert(folders.docker.begin(), moved);
    }
    return folders;
}

std::string container_id_in_cgroup(std::string_view cgroup) {
    const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    // Docker: "/docker/ID", "docker-ID.scope". Podman: "libpod-ID.scope"; "libpod-conmon-ID.scope" is only
    // its monitor, outside the container.
    for (std::size_t at = 0; at + id_length <= cgroup.size();) {
        const std::size_t length = static_cast<std::size_t>(
            std::ranges::find_if_not(cgroup.substr(at), is_digit) - cgroup.substr(at).begin());
        if (length == id_length && !cgroup.substr(0, at).ends_with("conmon-"))
            return std::string(cgroup.substr(at, length));
        at += length + 1;
    }
    return {};
}

Result<RunningContainer> find_container(std::string_view name, const ContainerFolders& folders) {
    std::vector<Described> known = docker_containers(folders);
    const std::size_t of_docker = known.size();
    std::ranges::move(podman_containers(folders), std::back_inserter(known));
    const auto found = std::ranges::find(known, name, &Described::name);
    if (found == known.end())
        return unknown_container(name, known, folders);
    const bool is_podman = static_cast<std::size_t>(found - known.begin()) >= of_docker;
    if (is_podman)
        found->pid = podman_process(folders, found->id);
    return running(*found, is_podman);
}

std::string container_name_of(pid_t pid, const ContainerFolders& folders) {
    const std::string id = container_id_in_cgroup(read_small_file(process_path(pid, "cgroup")));
    if (id.empty())
        return {};
    for (const std::string& docker : folders.docker) {
        if (const auto container = read_docker_container(docker, id))
            return container->name;
    }
    const auto podman = podman_containers(folders);
    const auto found = std::ranges::find(podman, id, &Described::id);
    return found == podman.end() ? std::string() : found->name;
}

}  // namespace pangolin
