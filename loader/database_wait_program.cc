#include "loader/database_wait_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>

#include "database_wait.skel.h"
#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "loader/kernel_btf.h"
#include "loader/pinned_maps.h"

namespace pangolin {
namespace {

// The kernel's own form of a device's number (include/linux/kdev_t.h, MKDEV).
std::uint32_t kernel_device(dev_t device) {
    return static_cast<std::uint32_t>(major(device) << 20 | minor(device));
}

// Waits of a program that is gone have no end.
template <class Value>
void clear_threads(const bpf_map* map) {
    for (const auto& [thread, value] : read_hash<__u32, Value>(bpf_map__fd(map)))
        bpf_map_delete_elem(bpf_map__fd(map), &thread);
}

// ext4 is a part of some kernels (Ubuntu's) and a module of others (Debian's).
Result<void> require_tracepoints() {
    auto kernel = KernelBtf::load();
    if (!kernel)
        return std::unexpected(kernel.error());
    if (auto with_module = KernelBtf::load_with_module("ext4"))
        kernel = std::move(with_module);
    for (const char* tracepoint : {"posix_lock_inode", "ext4_sync_file_enter", "ext4_sync_file_exit"})
        if (kernel->tracepoint_arguments(tracepoint) == 0)
            return failure(std::string("this kernel has no tracepoint ") + tracepoint,
                           "The time that Pangolin waits for its database is not published.", ENOENT);
    return {};
}

}  // namespace

DatabaseWaitProgram::DatabaseWaitProgram(DatabaseWaitProgram&&) noexcept = default;
DatabaseWaitProgram& DatabaseWaitProgram::operator=(DatabaseWaitProgram&&) noexcept = default;
DatabaseWaitProgram::~DatabaseWaitProgram() = default;

Result<DatabaseWaitProgram> DatabaseWaitProgram::load(const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    if (auto possible = require_tracepoints(); !possible)
        return std::unexpected(possible.error());
    DatabaseWaitProgram program;
    program.skeleton_.reset(database_wait_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the database BPF object");
    auto takeover = load_taking_over(*program.skeleton_, pins, "the database BPF program");
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    return program;
}

Result<void> DatabaseWaitProgram::start() {
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    return takeover_.open();
}

void DatabaseWaitProgram::watch(pid_t process, std::uint64_t start_time, dev_t device, ino_t inode) {
    auto& data = *skeleton_->bss;
    const auto number = static_cast<__u32>(process);
    const bool same_process = data.process == number && data.process_start == start_time;
    // While it is none, no event is seen: who waits now may be granted his lock then.
    if (same_process && data.database_device == kernel_device(device) && data.database_inode == inode)
        return;
    store_shared<__u32>(data.process, 0);
    if (!same_process) {
        clear_threads<std::array<__u64, 2>>(skeleton_->maps.lock_waits);
        clear_threads<__u64>(skeleton_->maps.sync_begins);
    }
    store_shared<__u64>(data.process_start, start_time);
    store_shared<__u32>(data.database_device, kernel_device(device));
    store_shared<__u64>(data.database_inode, inode);
    store_shared<__u32>(data.process, number);
}

database_wait DatabaseWaitProgram::read() const {
    return read_per_cpu_sums<database_wait>(bpf_map__fd(skeleton_->maps.waits), 0);
}

std::optional<database_wait> read_last_database_wait(const PinFolder& pins) {
    const UniqueFd waits = open_pinned_map(pins, "waits", sizeof(std::uint32_t), sizeof(database_wait));
    if (!waits)
        return {};
    return read_per_cpu_sums<database_wait>(waits.get(), 0);
}

bool can_time_syncs(const std::string& path) {
    struct statfs status{};
    return ::statfs(path.c_str(), &status) == 0 && status.f_type == EXT4_SUPER_MAGIC;
}

}  // namespace pangolin
