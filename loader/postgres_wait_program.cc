#include "loader/postgres_wait_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <cerrno>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "postgres_wait.skel.h"

namespace pangolin {

void PostgresWaitProgram::SkeletonDeleter::operator()(postgres_wait_bpf* skeleton) const {
    postgres_wait_bpf__destroy(skeleton);
}

void PostgresWaitProgram::LinkDeleter::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}

PostgresWaitProgram::PostgresWaitProgram(PostgresWaitProgram&&) noexcept = default;
PostgresWaitProgram& PostgresWaitProgram::operator=(PostgresWaitProgram&&) noexcept = default;
PostgresWaitProgram::~PostgresWaitProgram() = default;

Result<PostgresWaitProgram> PostgresWaitProgram::load() {
    collect_libbpf_messages();
    PostgresWaitProgram program;
    program.skeleton_.reset(postgres_wait_bpf__open_and_load());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot load the PostgreSQL BPF programs");
    return program;
}

Result<void> PostgresWaitProgram::watch(std::uint64_t netns_inode, std::uint16_t port,
                                        const std::string& cgroup) {
    auto& data = *skeleton_->bss;
    __atomic_store_n(&data.server_port, 0U, __ATOMIC_RELAXED);
    __atomic_store_n(&data.netns_inode, static_cast<__u32>(netns_inode), __ATOMIC_RELAXED);
    if (cgroup != cgroup_ || links_.empty()) {
        links_.clear();
        const UniqueFd folder(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!folder)
            return system_failure(errno, "cannot open " + cgroup);
        // First the end of connections, so that none stays for ever.
        links_.emplace_back(bpf_program__attach(skeleton_->progs.postgres_socket_closed));
        for (bpf_program* const program :
             {skeleton_->progs.postgres_egress, skeleton_->progs.postgres_ingress})
            if (links_.back())
                links_.emplace_back(bpf_program__attach_cgroup(program, folder.get()));
        if (!links_.back()) {
            const int error = errno;
            links_.clear();
            return bpf_failure(error, "cannot look at the packets of sockets in " + cgroup);
        }
        cgroup_ = cgroup;
    }
    __atomic_store_n(&data.server_port, __u32{port}, __ATOMIC_RELAXED);
    return {};
}

postgres_wait PostgresWaitProgram::read() const {
    std::vector<postgres_wait> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    const __u32 first = 0;
    postgres_wait sum{};
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.waits), &first, values.data()) != 0)
        return sum;
    for (const postgres_wait& value : values) {
        sum.wait_ns += value.wait_ns;
        sum.waits += value.waits;
        sum.encrypted += value.encrypted;
        sum.lost += value.lost;
    }
    return sum;
}

}  // namespace pangolin
