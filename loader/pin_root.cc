#include "loader/pin_root.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loader/base/number.h"
#include "loader/bpf_error.h"
#include "loader/network_hook.h"

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

// "4026532281-17-3"
std::optional<PinnedInterface> parse_interface(const PinFolder& folder, const std::string& name) {
    const std::size_t first = name.find('-');
    const std::size_t second = name.find('-', first + 1);
    if (first == std::string::npos || second == std::string::npos)
        return {};
    const std::string_view text(name);
    const auto inode = parse_number<std::uint64_t>(text.substr(0, first));
    const auto cookie = parse_number<std::uint64_t>(text.substr(first + 1, second - first - 1));
    const auto index = parse_number<unsigned>(text.substr(second + 1));
    if (!inode || !cookie || !index)
        return {};
    return PinnedInterface{.folder = folder, .netns_inode = *inode, .netns_cookie = *cookie, .index = *index};
}

// Every generation of every interface and layout.
std::vector<PinnedInterface> list(const PinFolder& root) {
    std::vector<PinnedInterface> found;
    for (const std::string& layout : root.entries()) {
        if (!layout.starts_with(layout_prefix))
            continue;
        const PinFolder interfaces = root.below(layout);
        for (const std::string& name : interfaces.entries()) {
            const PinFolder generations = interfaces.below(name);
            for (const std::string& generation : generations.entries()) {
                if (auto interface = parse_interface(generations.below(generation), name))
                    found.push_back(std::move(*interface));
            }
        }
    }
    return found;
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
    return root_.below(pin_layout)
        .below(std::to_string(interface.netns.id.inode) + "-" + std::to_string(interface.netns_cookie) + "-" +
               std::to_string(interface.index));
}

std::string PinRoot::path_in_root(const PinFolder& folder) const {
    return folder.path().substr(root_.path().size() + 1);
}

std::optional<PinEpoch> PinRoot::epoch() const {
    PinEpoch epoch;
    constexpr std::uint32_t first = 0;
    if (!epoch_ || bpf_map_lookup_elem(epoch_.get(), &first, &epoch) != 0)
        return {};
    return epoch;
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
    for (const PinnedInterface& each : list(root_))
        paths.push_back(path_in_root(each.folder));
    return paths;
}

std::vector<PinnedInterface> list_pinned(const std::string& root) {
    std::vector<PinnedInterface> found = list(PinFolder(root));
    for (PinnedInterface& each : found)
        each.attached = NetworkHook::is_attached(each.folder);
    return found;
}

void detach_pinned(const PinFolder& generation, const std::vector<NetworkNamespace>& namespaces) {
    const PinFolder above(generation.path().substr(0, generation.path().rfind('/')));
    const auto interface = parse_interface(generation, above.path().substr(above.path().rfind('/') + 1));
    if (interface) {
        const auto netns = std::ranges::find_if(namespaces, [&](const NetworkNamespace& each) {
            return each.id.inode == interface->netns_inode;
        });
        if (netns != namespaces.end())
            NetworkHook::detach({.netns = *netns,
                                 .netns_cookie = interface->netns_cookie,
                                 .index = interface->index,
                                 .name = "interface " + std::to_string(interface->index)},
                                generation);
    }
    generation.remove();
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
    const std::vector<PinnedInterface> found = list(folder);
    for (const PinnedInterface& each : found)
        detach_pinned(each.folder, *namespaces);
    for (const std::string& name : folder.entries()) {
        if (name.starts_with(layout_prefix) || name == epoch_name)
            folder.remove(name);
    }
    // As long as nothing of others is in it.
    ::rmdir(root.c_str());
    return found.size();
}

}  // namespace pangolin
