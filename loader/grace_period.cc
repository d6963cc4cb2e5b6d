#include "loader/grace_period.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace pangolin {

void wait_for_running_programs() {
    // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c), and BPF programs on network
    // hooks run inside an RCU read section. Kernels with nohz_full CPUs refuse it: there a time far beyond
    // any program's run.
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0)
        return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

}  // namespace pangolin
