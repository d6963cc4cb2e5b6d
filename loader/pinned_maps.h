// The maps of a BPF object, pinned by one process and used on by the next one.
#pragma once

#include "loader/base/error.h"
#include "loader/pin_folder.h"

struct bpf_object;

namespace pangolin {

// Pins every map of a loaded object under its name, but constants.
Result<void> pin_maps(bpf_object* object, const PinFolder& pins);

// Makes an object that is not loaded yet use the maps pinned in `pins`. Returns false when some of its maps
// are missing there or are of another kind (type, sizes of key and value, flags): these it does not use, and
// they have no descriptor until the object is loaded. A map's number of elements is what it is.
Result<bool> reuse_pinned_maps(bpf_object* object, const PinFolder& pins);

}  // namespace pangolin
