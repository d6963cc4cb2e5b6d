#include "loader/clsact.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"

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

int collect_filter(const nlmsghdr* message, void* filters) {
    const auto* const header = static_cast<const tcmsg*>(mnl_nlmsg_get_payload(message));
    // A priority's head is listed as well, with handle 0.
    if (message->nlmsg_type == RTM_NEWTFILTER && header->tcm_handle != 0)
        static_cast<std::vector<Filter>*>(filters)->push_back(
            {TC_H_MAJ(header->tcm_info) >> 16, header->tcm_handle});
    return MNL_CB_OK;
}

// The filters of one direction of the interface's clsact; none when they cannot be listed.
std::optional<std::vector<Filter>> list_filters(const WireGuardInterface& interface,
                                                bpf_tc_attach_point point) {
    const std::unique_ptr<mnl_socket, decltype(&mnl_socket_close)> socket(mnl_socket_open(NETLINK_ROUTE),
                                                                          &mnl_socket_close);
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0)
        return {};
    std::vector<char> buffer(32768);
    nlmsghdr* const header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = RTM_GETTFILTER;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    auto* const request = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(tcmsg)));
    request->tcm_family = AF_UNSPEC;
    request->tcm_ifindex = static_cast<int>(interface.index);
    request->tcm_parent =
        TC_H_MAKE(TC_H_CLSACT, point == BPF_TC_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
    if (mnl_socket_sendto(socket.get(), header, header->nlmsg_len) < 0)
        return {};
    std::vector<Filter> filters;
    for (;;) {
        const ssize_t received = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
        if (received < 0)
            return {};
        const int next = mnl_cb_run(buffer.data(), static_cast<std::size_t>(received), 0,
                                    mnl_socket_get_portid(socket.get()), collect_filter, &filters);
        if (next == MNL_CB_STOP)
            return filters;
        if (next < MNL_CB_STOP)
            return {};
    }
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
