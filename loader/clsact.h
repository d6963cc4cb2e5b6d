// The clsact qdisc and its filters, the attachment of kernels before 6.6. All calls work in the calling
// thread's network namespace.
#pragma once

#include "bpf/shared/address.h"
#include "loader/base/error.h"
#include "loader/network_hook.h"
#include "loader/network_interface.h"

namespace pangolin {

// Returns whether the qdisc is new; one that another program made is shared and left alone later.
Result<bool> create_clsact(const NetworkInterface& interface);

// Adds two filters in front of the others as far as those let us, or replaces the programs in those that hold
// `attached` atomically. `attached` is kept up to date, also by a call that fails half-way.
//
// Removes what an exporter has left behind that was killed, if it ran in our PID namespace: of another one's
// processes we cannot know whether they live. What a PID namespace (a container, say) leaves behind when it
// ends stays until the interface goes; it counts into maps that nobody reads, and harms nobody. Filters that
// are to outlive this process (`pinned`) are nobody's to remove but by their programs.
Result<void> set_clsact_filters(const NetworkInterface& interface, ProgramPair programs, ProgramIds& attached,
                                bool pinned);

// Whether a filter of this direction has this program in it.
bool has_clsact_filter(const NetworkInterface& interface, traffic_direction direction, std::uint32_t program);
// Whether both filters are there with these programs in them.
bool has_clsact_filters(const NetworkInterface& interface, const ProgramIds& attached);

// Removes our filters if these programs are in them, and the qdisc if `created_qdisc` and nobody else has a
// filter in it.
void remove_clsact_filters(const NetworkInterface& interface, const ProgramIds& attached, bool created_qdisc);

}  // namespace pangolin
