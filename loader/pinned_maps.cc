#include "loader/pinned_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <set>
#include <string>
#include <string_view>

#include "loader/bpf_error.h"

namespace pangolin {
namespace {

// Read-only once it is loaded, and part of the programs: each process has its own.
bool is_constant(const bpf_map* map) {
    return bpf_map__is_internal(map) && std::string_view(bpf_map__name(map)).ends_with(".rodata");
}

bool is_usable(const bpf_map* map, int fd, PinnedRoom room) {
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    return bpf_map_get_info_by_fd(fd, &info, &length) == 0 &&
           info.type == static_cast<std::uint32_t>(bpf_map__type(map)) &&
           info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
           info.map_flags == bpf_map__map_flags(map) &&
           (room == PinnedRoom::any || info.max_entries >= bpf_map__max_entries(map));
}

}  // namespace

Result<void> pin_maps(bpf_object* object, const PinFolder& pins, const std::set<std::string>& shared) {
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        if (is_constant(map) || shared.contains(bpf_map__name(map)))
            continue;
        if (auto pinned = pins.pin(bpf_map__fd(map), bpf_map__name(map)); !pinned)
            return pinned;
    }
    return {};
}

std::set<std::string> shared_maps(const bpf_object* object) {
    std::set<std::string> names;
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        if (bpf_map__fd(map) >= 0)
            names.insert(bpf_map__name(map));
    }
    return names;
}

Result<bool> reuse_pinned_maps(bpf_object* object, const PinFolder& pins, PinnedRoom room) {
    bool all = true;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        if (is_constant(map) || bpf_map__fd(map) >= 0)
            continue;
        const UniqueFd pinned = pins.open(bpf_map__name(map));
        if (!pinned || !is_usable(map, pinned.get(), room)) {
            all = false;
            continue;
        }
        if (const int error = bpf_map__reuse_fd(map, pinned.get()); error != 0)
            return bpf_failure(-error,
                               "cannot use the BPF map '" + std::string(bpf_map__name(map)) + "' again");
    }
    return all;
}

UniqueFd open_pinned_map(const PinFolder& pins, std::string_view name, std::uint32_t key_size,
                         std::uint32_t value_size) {
    UniqueFd map = pins.open(name);
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (map && (bpf_map_get_info_by_fd(map.get(), &info, &length) != 0 || info.key_size != key_size ||
                info.value_size != value_size))
        return {};
    return map;
}

}  // namespace pangolin
