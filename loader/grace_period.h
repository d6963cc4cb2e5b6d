// Waiting for BPF programs that run right now.
#pragma once

namespace pangolin {

// Returns when every BPF program that was running at the call has ended. Takes some milliseconds.
void wait_for_running_programs();

}  // namespace pangolin
