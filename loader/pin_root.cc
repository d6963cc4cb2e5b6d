#include "loader/pin_root.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "loader/base/number.h"
#include "loader/bpf_error.h"
#include "loader/network_hook.h"
#include "loader/underlay_probe.h"

namespace pangolin {
namespace {

constexpr std::string_view epoch_name = "epoch";
constexpr std::string_view layout_prefix = "layout-";

Error in_use(const std::string& path) {
    return {"another exporter counts with the pins in " + path,
            "Stop it, or give this one a pin_dir and a state_dir of its own.", EWOULDBLOCK};
}

Result<UniqueFd> lock(const std::string& path) {
    UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return system_failure(errno, "cannot open " + path);
    if (::flock(folder.get(), LOCK_EX | LOCK_NB) == 0)
        return folder;
    if (errno == EWOULDBLOCK)
        return std::unexpected(in_use(path));
    return system_failure(errno, "cannot lock " + path);
}

bool is_bpf_filesystem(const std::string& path) {
    struct statfs status{};
    return ::statfs(path.c_str(), &status) == 0 && static_cast<unsigned long>(status.f_type) == BPF_FS_MAGIC;
}

constexpr std::string_view traffic_programs = "traffic";

std::string name_of(const NetworkInterface& interface) {
    return std::to_string(interface.netns.id.inode) + "-" + std::to_string(interface.netns_cookie) + "-" +
           std::to_string(interface.index);
}

// "4026532281-17-3" (the traffic of an interface), "4026532281-17-3-tcp" (more of it), or "sockets".
PinnedPrograms parse_name(const PinFolder& folder, const std::string& name) {
    std::array<std::uint64_t, 3> numbers{};
    std::string_view rest(name);
    for (std::uint64_t& number : numbers) {
        const std::size_t end = std::min(rest.find('-'), rest.size());
        const auto parsed = parse_number<std::uint64_t>(rest.substr(0, end));
        if (!parsed)
            return {.folder = folder, .interface = {}, .name = name};
        number = *parsed;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return {.folder = folder,
            .interface = PinnedPrograms::Interface{.netns_inode = numbers[0],
                                                   .netns_cookie = numbers[1],
                                                   .index = static_cast<unsigned>(numbers[2])},
            .name = std::string(rest.empty() ? traffic_programs : rest)};
}

// Every generation of all programs and layouts.
std::vector<PinnedPrograms> list(const PinFolder& root) {
    std::vector<PinnedPrograms> found;
    for (const std::string& layout : root.entries()) {
        if (!layout.starts_with(layout_prefix))
            continue;
        const PinFolder programs = root.below(layout);
        for (const std::string& name : programs.entries()) {
            for (const std::string& generation : programs.below(name).entries())
                found.push_back(parse_name(programs.below(name).below(generation), name));
        }
    }
    return found;
}

std::optional<PinEpoch> read_epoch(const UniqueFd& map) {
    PinEpoch epoch;
    constexpr std::uint32_t first = 0;
    if (!map || bpf_map_lookup_elem(map.get(), &first, &epoch) != 0)
        return {};
    return epoch;
}

std::string_view last_name(const PinFolder& folder) {
    return std::string_view(folder.path()).substr(folder.path().rfind('/') + 1);
}

PinFolder above(const PinFolder& folder) {
    return PinFolder(folder.path().substr(0, folder.path().rfind('/')));
}

std::uint32_t number_of(const PinFolder& generation) {
    return parse_number<std::uint32_t>(last_name(generation)).value_or(0);
}

}  // namespace

Result<PinRoot> PinRoot::open(const std::string& path) {
    collect_libbpf_messages();
    PinRoot root;
    root.root_ = PinFolder(path);
    if (auto created = root.root_.create(); !created)
        return std::unexpected(created.error());
    if (!is_bpf_filesystem(path))
        return failure(
            path + " is not on a BPF filesystem",
            "Mount one: mount -t bpf bpf /sys/fs/bpf; in a container, pass the host's /sys/fs/bpf.");
    auto locked = lock(path);
    if (!locked)
        return std::unexpected(locked.error());
    root.lock_ = std::move(*locked);
    root.epoch_ = root.root_.open(epoch_name);
    return root;
}

PinFolder PinRoot::interface(const NetworkInterface& interface) const {
    return root_.below(pin_layout).below(name_of(interface));
}

// Of all layouts, in the order in which they were made.
std::vector<PinFolder> PinRoot::generations_of(std::string_view name) const {
    std::vector<PinFolder> found;
    for (const std::string& layout : root_.entries()) {
        if (!layout.starts_with(layout_prefix))
            continue;
        const PinFolder generations = root_.below(layout).below(name);
        for (const std::string& generation : generations.entries())
            found.push_back(generations.below(generation));
    }
    std::ranges::stable_sort(found, {}, number_of);
    return found;
}

PinFolder PinRoot::next_generation(std::string_view name, std::uint32_t after) const {
    const std::vector<PinFolder> found = generations_of(name);
    const std::uint32_t last = found.empty() ? after : std::max(after, number_of(found.back()));
    return root_.below(pin_layout).below(name).below(std::to_string(last + 1));
}

KeptPins PinRoot::kept(std::string_view programs, const std::string& written) const {
    const std::uint32_t first = number_of(PinFolder(written));
    // Where the written one was removed, what is credited of it must not meet other maps of its name.
    KeptPins pins{.folder = next_generation(programs, first), .before = generations_of(programs)};
    // Those before the written one were credited, and the process ended before it removed them.
    const auto over = std::ranges::stable_partition(
        pins.before, [&](const PinFolder& each) { return !written.empty() && number_of(each) >= first; });
    detach_pinned({over.begin(), over.end()});
    pins.before.erase(over.begin(), over.end());
    if (!pins.before.empty() && above(pins.before.back()).path() == above(pins.folder).path()) {
        pins.folder = pins.before.back();
        pins.before.pop_back();
    }
    return pins;
}

std::string PinRoot::programs_of(const NetworkInterface& interface, std::string_view programs) {
    return name_of(interface) + "-" + std::string(programs);
}

std::vector<PinFolder> PinRoot::forgotten(const std::function<bool(const PinFolder&)>& known) const {
    std::vector<PinFolder> folders;
    for (const PinnedPrograms& each : list(root_)) {
        if (!each.interface || each.name == traffic_programs)
            continue;
        const auto& [inode, cookie, index] = *each.interface;
        const PinFolder traffic =
            root_.below(pin_layout)
                .below(std::to_string(inode) + "-" + std::to_string(cookie) + "-" + std::to_string(index));
        if (!known(traffic))
            folders.push_back(each.folder);
    }
    return folders;
}

KeptPins PinRoot::renewed(KeptPins pins) const {
    const PinFolder programs = above(pins.folder);
    pins.before.push_back(pins.folder);
    pins.folder = next_generation(last_name(programs), 0);
    return pins;
}

std::string PinRoot::path_in_root(const PinFolder& folder) const {
    return folder.path().substr(root_.path().size() + 1);
}

std::optional<PinEpoch> PinRoot::epoch() const {
    return read_epoch(epoch_);
}

std::optional<PinEpoch> read_pin_epoch(const std::string& root) {
    return read_epoch(PinFolder(root).open(epoch_name));
}

Result<void> PinRoot::set_epoch(const PinEpoch& epoch) {
    static_assert(sizeof(PinEpoch) == 24);
    if (!epoch_) {
        UniqueFd map(
            bpf_map_create(BPF_MAP_TYPE_ARRAY, "pin_epoch", sizeof(std::uint32_t), sizeof epoch, 1, nullptr));
        if (!map)
            return bpf_failure(errno, "cannot create the BPF map 'pin_epoch'");
        if (auto pinned = root_.pin(map.get(), epoch_name); !pinned)
            return pinned;
        epoch_ = std::move(map);
    }
    constexpr std::uint32_t first = 0;
    if (bpf_map_update_elem(epoch_.get(), &first, &epoch, BPF_ANY) != 0)
        return bpf_failure(errno, "cannot write the BPF map 'pin_epoch'");
    return {};
}

std::vector<std::string> PinRoot::generations() const {
    std::vector<std::string> paths;
    for (const PinnedPrograms& each : list(root_)) {
        if (each.name == traffic_programs)
            paths.push_back(path_in_root(each.folder));
    }
    return paths;
}

std::vector<PinnedPrograms> list_pinned(const std::string& root) {
    std::vector<PinnedPrograms> found = list(PinFolder(root));
    for (PinnedPrograms& each : found)
        each.attached = each.name == traffic_programs
                            ? NetworkHook::is_attached(each.folder)
                            : Takeover::is_attached(each.folder) || UnderlayProbe::is_attached(each.folder);
    return found;
}

void detach_pinned(const PinFolder& generation, const std::vector<NetworkNamespace>& namespaces) {
    const auto interface = parse_name(generation, std::string(last_name(above(generation)))).interface;
    if (interface) {
        const auto netns = std::ranges::find_if(namespaces, [&](const NetworkNamespace& each) {
            return each.id.inode == interface->netns_inode;
        });
        if (netns != namespaces.end()) {
            NetworkInterface attached{.netns = *netns,
                                      .netns_cookie = interface->netns_cookie,
                                      .index = interface->index,
                                      .name = "interface " + std::to_string(interface->index)};
            NetworkHook::detach(attached, generation);
            for (const std::string& name : generation.entries()) {
                if (const auto device = UnderlayProbe::device_of(name)) {
                    attached.index = *device;
                    NetworkHook::detach(attached, generation.below(name));
                }
            }
        }
    }
    generation.remove();
}

void detach_pinned(const std::vector<PinFolder>& generations) {
    if (generations.empty())
        return;
    const auto namespaces = find_network_namespaces("auto").value_or(std::vector<NetworkNamespace>{});
    for (const PinFolder& generation : generations)
        detach_pinned(generation, namespaces);
}

Result<std::size_t> detach_all(const std::string& root) {
    const PinFolder folder(root);
    if (!folder.exists())
        return std::size_t{0};
    const auto locked = lock(root);
    if (!locked)
        return std::unexpected(locked.error());
    const auto namespaces = find_network_namespaces("auto");
    if (!namespaces)
        return std::unexpected(namespaces.error());
    // Whatever is left when this ends half-way is not to be understood any more.
    folder.remove(epoch_name);
    const std::vector<PinnedPrograms> found = list(folder);
    for (const PinnedPrograms& each : found)
        detach_pinned(each.folder, *namespaces);
    for (const std::string& name : folder.entries()) {
        if (name.starts_with(layout_prefix))
            folder.remove(name);
    }
    // As long as nothing of others is in it, and it was not made for another user's exporter.
    struct stat status{};
    if (::stat(root.c_str(), &status) == 0 && status.st_uid == ::geteuid())
        ::rmdir(root.c_str());
    std::set<std::string> sets;
    for (const PinnedPrograms& each : found)
        sets.insert(above(each.folder).path());
    return sets.size();
}

}  // namespace pangolin
