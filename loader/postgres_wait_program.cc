#include "loader/postgres_wait_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/netlink.h>

#include <cerrno>

#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "loader/netlink.h"
#include "loader/pinned_maps.h"
#include "postgres_wait.skel.h"

namespace pangolin {
namespace {

Result<std::uint64_t> cookie_of(const NetworkNamespace& netns) {
    std::uint64_t cookie = 0;
    auto entered = run_in_network_namespace(netns, [&]() -> Result<void> {
        const auto socket = NetlinkSocket::open(NETLINK_ROUTE);
        if (!socket)
            return std::unexpected(socket.error());
        cookie = socket->netns_cookie();
        return {};
    });
    if (!entered)
        return std::unexpected(entered.error());
    return cookie;
}

}  // namespace

PostgresWaitProgram::PostgresWaitProgram(PostgresWaitProgram&&) noexcept = default;
PostgresWaitProgram& PostgresWaitProgram::operator=(PostgresWaitProgram&&) noexcept = default;
PostgresWaitProgram::~PostgresWaitProgram() = default;

Result<PostgresWaitProgram> PostgresWaitProgram::load(const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    PostgresWaitProgram program;
    program.skeleton_.reset(postgres_wait_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the PostgreSQL BPF object");
    auto takeover = load_taking_over(*program.skeleton_, pins, "the PostgreSQL BPF programs");
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    return program;
}

Result<void> PostgresWaitProgram::start() {
    // First the end of connections, so that none stays for ever.
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    if (auto opened = takeover_.open(); !opened)
        return opened;
    started_ = true;
    // Who was there may be gone already: watch() says so, and is called again.
    [[maybe_unused]] const Result<void> attached = attach_to_cgroup();
    return {};
}

Result<void> PostgresWaitProgram::attach_to_cgroup() {
    if (!started_ || cgroup_.empty())
        return {};
    return takeover_.attach_to_cgroups({skeleton_->progs.postgres_egress, skeleton_->progs.postgres_ingress},
                                       {cgroup_});
}

Result<void> PostgresWaitProgram::watch(const NetworkNamespace& netns, std::uint16_t port,
                                        const std::string& cgroup) {
    const auto cookie = cookie_of(netns);
    if (!cookie)
        return std::unexpected(cookie.error());
    auto& data = *skeleton_->bss;
    const auto inode = static_cast<__u32>(netns.id.inode);
    const bool is_same =
        data.netns_inode == inode && data.netns_cookie == *cookie && data.server_port == port;
    // While it is none, no packet is seen: who waits now may get his answer then.
    if (!is_same) {
        store_shared<__u32>(data.server_port, 0);
        store_shared<__u32>(data.netns_inode, inode);
        store_shared<__u64>(data.netns_cookie, *cookie);
    }
    cgroup_ = cgroup;
    auto attached = attach_to_cgroup();
    if (attached)
        store_shared<__u32>(data.server_port, port);
    return attached;
}

postgres_wait PostgresWaitProgram::read() const {
    return read_per_cpu_sums<postgres_wait>(bpf_map__fd(skeleton_->maps.waits), 0);
}

std::optional<postgres_wait> read_last_postgres_wait(const PinFolder& pins) {
    const UniqueFd waits = open_pinned_map(pins, "waits", sizeof(std::uint32_t), sizeof(postgres_wait));
    if (!waits)
        return {};
    return read_per_cpu_sums<postgres_wait>(waits.get(), 0);
}

}  // namespace pangolin
