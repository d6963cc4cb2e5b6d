// Reading a userspace WireGuard implementation over its UAPI socket.
#pragma once

#include <memory>
#include <string_view>

#include "userspace/wireguard/device.h"

namespace pangolin {

// Replaces the contents of `device` by what a whole answer to "get=1" says, reusing its memory. Unknown keys
// are skipped. An error names the line and the key, never a value: some of them are secrets.
Result<void> parse_uapi(std::string_view answer, WireGuardDevice& device);

// Connects anew for each read, which takes two seconds at most. An implementation that does not listen any
// more has taken its interface with it: ENODEV.
Result<std::unique_ptr<WireGuardReader>> open_uapi_reader(const WireGuardInterface& interface);

}  // namespace pangolin
