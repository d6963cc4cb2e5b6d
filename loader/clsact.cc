#include "loader/clsact.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/netlink.h"

namespace pangolin {
namespace {

// Our place among the filters of a direction: a priority below the range that the kernel hands out by itself
// (49152 downwards), and the process id as the handle, so that two exporters do not take each other's place
// and what a killed one has left is known by its dead owner.
constexpr std::uint32_t filter_priority = 9464;

bpf_tc_hook hook_of(const WireGuardInterface& interface, bpf_tc_attach_point point) {
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(interface.index);
    hook.attach_point = point;
    return hook;
}

bpf_tc_opts filter_at(std::uint32_t handle) {
    bpf_tc_opts filter{};
    filter.sz = sizeof filter;
    filter.handle = handle;
    filter.priority = filter_priority;
    return filter;
}

std::uint32_t our_handle() {
    return static_cast<std::uint32_t>(::getpid());
}

std::string program_name(std::uint32_t id) {
    const UniqueFd program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (!program || bpf_prog_get_info_by_fd(program.get(), &info, &length) != 0)
        return {};
    return info.name;
}

struct Filter {
    std::uint32_t priority = 0;
    std::uint32_t handle = 0;
};

// The filters of one direction of the interface's clsact.
Result<std::vector<Filter>> list_filters(const WireGuardInterface& interface, bpf_tc_attach_point point) {
    auto socket = NetlinkSocket::open(NETLINK_ROUTE);
    if (!socket)
        return std::unexpected(std::move(socket.error()));
    std::array<char, 128> buffer{};
    nlmsghdr* const request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = RTM_GETTFILTER;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    auto* const parent = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(tcmsg)));
    parent->tcm_family = AF_UNSPEC;
    parent->tcm_ifindex = static_cast<int>(interface.index);
    parent->tcm_parent = TC_H_MAKE(TC_H_CLSACT, point == BPF_TC_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
    std::vector<Filter> filters;
    const auto listed = socket->exchange(request, [&](const nlmsghdr& message) -> Result<void> {
        const auto* const filter = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&message));
        // A priority's head is listed as well, with handle 0.
        if (message.nlmsg_type == RTM_NEWTFILTER && filter->tcm_handle != 0)
            filters.push_back({TC_H_MAJ(filter->tcm_info) >> 16, filter->tcm_handle});
        return {};
    });
    if (!listed)
        return std::unexpected(listed.error());
    return filters;
}

// A filter that an exporter has left behind that was killed.
bool abandoned(const bpf_tc_hook& hook, const Filter& filter, const bpf_program* program) {
    if (filter.priority != filter_priority || filter.handle == our_handle() ||
        ::kill(static_cast<pid_t>(filter.handle), 0) == 0 || errno != ESRCH)
        return false;
    bpf_tc_opts found = filter_at(filter.handle);
    return bpf_tc_query(&hook, &found) == 0 && program_name(found.prog_id) == bpf_program__name(program);
}

Result<void> set_filter(const WireGuardInterface& interface, bpf_tc_attach_point point,
                        const bpf_program* program) {
    const bpf_tc_hook hook = hook_of(interface, point);
    for (const Filter& filter : list_filters(interface, point).value_or(std::vector<Filter>{})) {
        if (!abandoned(hook, filter, program))
            continue;
        const bpf_tc_opts old = filter_at(filter.handle);
        bpf_tc_detach(&hook, &old);
    }
    bpf_tc_opts filter = filter_at(our_handle());
    filter.prog_fd = bpf_program__fd(program);
    filter.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &filter); error != 0)
        return bpf_failure(-error, "cannot attach to clsact of " + interface.name);
    return {};
}

bool unused(const WireGuardInterface& interface, bpf_tc_attach_point point) {
    const auto filters = list_filters(interface, point);
    return filters && filters->empty();
}

}  // namespace

Result<bool> create_clsact(const WireGuardInterface& interface) {
    bpf_tc_hook hook = hook_of(interface, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    const int error = bpf_tc_hook_create(&hook);
    if (error != 0 && error != -EEXIST)
        return bpf_failure(-error, "cannot create the clsact qdisc of " + interface.name);
    return error == 0;
}

Result<void> set_clsact_filters(const WireGuardInterface& interface, ProgramPair programs) {
    if (auto ingress = set_filter(interface, BPF_TC_INGRESS, programs.ingress); !ingress)
        return ingress;
    return set_filter(interface, BPF_TC_EGRESS, programs.egress);
}

void remove_clsact_filters(const WireGuardInterface& interface, bool created_qdisc) {
    for (const bpf_tc_attach_point point : {BPF_TC_INGRESS, BPF_TC_EGRESS}) {
        const bpf_tc_hook hook = hook_of(interface, point);
        const bpf_tc_opts filter = filter_at(our_handle());
        bpf_tc_detach(&hook, &filter);
    }
    if (!created_qdisc || !unused(interface, BPF_TC_INGRESS) || !unused(interface, BPF_TC_EGRESS))
        return;
    bpf_tc_hook hook = hook_of(interface, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
}

}  // namespace pangolin
