#include "loader/database_wait_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <vector>

#include "database_wait.skel.h"
#include "loader/bpf_error.h"
#include "loader/kernel_btf.h"

namespace pangolin {
namespace {

// The kernel's own form of a device's number (include/linux/kdev_t.h, MKDEV).
std::uint32_t kernel_device(dev_t device) {
    return static_cast<std::uint32_t>(major(device) << 20 | minor(device));
}

template <class Value>
void store(Value& place, Value value) {
    __atomic_store_n(&place, value, __ATOMIC_RELAXED);
}

}  // namespace

void DatabaseWaitProgram::SkeletonDeleter::operator()(database_wait_bpf* skeleton) const {
    database_wait_bpf__destroy(skeleton);
}

DatabaseWaitProgram::DatabaseWaitProgram(DatabaseWaitProgram&&) noexcept = default;
DatabaseWaitProgram& DatabaseWaitProgram::operator=(DatabaseWaitProgram&&) noexcept = default;
DatabaseWaitProgram::~DatabaseWaitProgram() = default;

Result<DatabaseWaitProgram> DatabaseWaitProgram::attach() {
    collect_libbpf_messages();
    const auto kernel = KernelBtf::load();
    if (!kernel)
        return std::unexpected(kernel.error());
    for (const char* tracepoint : {"posix_lock_inode", "ext4_sync_file_enter", "ext4_sync_file_exit"})
        if (kernel->tracepoint_arguments(tracepoint) == 0)
            return failure(std::string("this kernel has no tracepoint ") + tracepoint,
                           "The time that Pangolin waits for its database is not published.", ENOENT);
    DatabaseWaitProgram program;
    program.skeleton_.reset(database_wait_bpf__open_and_load());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot load the database BPF program");
    if (const int error = database_wait_bpf__attach(program.skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot attach the database BPF program");
    return program;
}

void DatabaseWaitProgram::watch(pid_t process, dev_t device, ino_t inode) {
    auto& data = *skeleton_->bss;
    store<__u32>(data.process, 0);
    store<__u32>(data.database_device, kernel_device(device));
    store<__u64>(data.database_inode, inode);
    store<__u32>(data.process, static_cast<__u32>(process));
}

database_wait DatabaseWaitProgram::read() const {
    const auto processors = static_cast<std::size_t>(libbpf_num_possible_cpus());
    std::vector<database_wait> values(processors);
    const __u32 first = 0;
    database_wait sum{};
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.waits), &first, values.data()) != 0)
        return sum;
    for (const database_wait& value : values) {
        sum.lock_ns += value.lock_ns;
        sum.locks += value.locks;
        sum.sync_ns += value.sync_ns;
        sum.syncs += value.syncs;
        sum.lost += value.lost;
    }
    return sum;
}

bool can_time_syncs(const std::string& path) {
    struct statfs status{};
    return ::statfs(path.c_str(), &status) == 0 && status.f_type == EXT4_SUPER_MAGIC;
}

}  // namespace pangolin
