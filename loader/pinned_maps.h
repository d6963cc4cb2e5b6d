// The maps of a BPF object, pinned by one process and used on by the next one.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/pin_folder.h"

struct bpf_object;

namespace pangolin {

// Pins every map of a loaded object under its name, but constants and those named in `shared`.
Result<void> pin_maps(bpf_object* object, const PinFolder& pins, const std::set<std::string>& shared = {});

// The maps of an object that is not loaded yet that were given a descriptor: they belong to somebody else.
std::set<std::string> shared_maps(const bpf_object* object);

// What is expected of a pinned map's number of elements, which is what it is.
enum class PinnedRoom : std::uint8_t { any, as_asked_for };

// Makes an object that is not loaded yet use the maps pinned in `pins`. Returns false when some of its maps
// are missing there or are of another kind (type, sizes of key and value, flags), or have less room than is
// asked for: these it does not use, and they have no descriptor until the object is loaded. shared_maps() are
// left as they are.
Result<bool> reuse_pinned_maps(bpf_object* object, const PinFolder& pins, PinnedRoom room = PinnedRoom::any);

// One map that is pinned there, to be read; empty when it is missing or has other elements.
UniqueFd open_pinned_map(const PinFolder& pins, std::string_view name, std::uint32_t key_size,
                         std::uint32_t value_size);

}  // namespace pangolin
