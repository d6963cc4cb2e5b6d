// The clsact qdisc and its filters, the attachment of kernels before 6.6. All calls work in the calling
// thread's network namespace.
#pragma once

#include "loader/base/error.h"
#include "loader/traffic_hook.h"
#include "loader/wireguard_interface.h"

namespace pangolin {

// Returns whether the qdisc is new; one that another program made is shared and left alone later.
Result<bool> create_clsact(const WireGuardInterface& interface);

// Adds our two filters, or replaces the programs in them atomically.
Result<void> set_clsact_filters(const WireGuardInterface& interface, ProgramPair programs);

// Removes our filters, and the qdisc if `created_qdisc` and nobody else has a filter in it.
void remove_clsact_filters(const WireGuardInterface& interface, bool created_qdisc);

}  // namespace pangolin
