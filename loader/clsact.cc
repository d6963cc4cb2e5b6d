#include "loader/clsact.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "loader/bpf_error.h"

namespace pangolin {
namespace {

// Our place among the filters of a direction. The priority is below the range that the kernel hands out by
// itself (49152 downwards), and a filter found there that is not ours is never replaced.
constexpr std::uint32_t filter_priority = 9464;
constexpr std::uint32_t filter_handle = 1;

bpf_tc_hook hook_of(const WireGuardInterface& interface, bpf_tc_attach_point point) {
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(interface.index);
    hook.attach_point = point;
    return hook;
}

bpf_tc_opts our_filter() {
    bpf_tc_opts filter{};
    filter.sz = sizeof filter;
    filter.handle = filter_handle;
    filter.priority = filter_priority;
    return filter;
}

std::string program_name(std::uint32_t id) {
    const int fd = bpf_prog_get_fd_by_id(id);
    if (fd < 0)
        return {};
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    const int error = bpf_prog_get_info_by_fd(fd, &info, &length);
    ::close(fd);
    return error == 0 ? info.name : std::string{};
}

// A filter in our place: none, left by an earlier run of this program, or somebody else's.
Result<void> check_place(const bpf_tc_hook& hook, const bpf_program* program) {
    bpf_tc_opts found = our_filter();
    if (bpf_tc_query(&hook, &found) != 0)
        return {};
    const std::string name = program_name(found.prog_id);
    if (name == bpf_program__name(program))
        return {};
    return failure("filter priority " + std::to_string(filter_priority) + " of interface index " +
                       std::to_string(hook.ifindex) + " is taken by BPF program '" + name + "'",
                   "Move the other filter to another priority.");
}

Result<void> set_filter(const WireGuardInterface& interface, bpf_tc_attach_point point,
                        const bpf_program* program) {
    const bpf_tc_hook hook = hook_of(interface, point);
    if (auto place = check_place(hook, program); !place)
        return place;
    bpf_tc_opts filter = our_filter();
    filter.prog_fd = bpf_program__fd(program);
    filter.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &filter); error != 0)
        return bpf_failure(-error, "cannot attach to clsact of " + interface.name);
    return {};
}

int count_filter(const nlmsghdr* message, void* count) {
    if (message->nlmsg_type == RTM_NEWTFILTER)
        ++*static_cast<int*>(count);
    return MNL_CB_OK;
}

// Filters in one direction of the interface's clsact; -1 when that cannot be found out.
int filters_in(const WireGuardInterface& interface, std::uint32_t parent) {
    const std::unique_ptr<mnl_socket, decltype(&mnl_socket_close)> socket(mnl_socket_open(NETLINK_ROUTE),
                                                                          &mnl_socket_close);
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0)
        return -1;
    std::array<char, 16384> buffer{};
    nlmsghdr* const header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = RTM_GETTFILTER;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    auto* const request = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(tcmsg)));
    request->tcm_family = AF_UNSPEC;
    request->tcm_ifindex = static_cast<int>(interface.index);
    request->tcm_parent = parent;
    if (mnl_socket_sendto(socket.get(), header, header->nlmsg_len) < 0)
        return -1;
    int filters = 0;
    for (;;) {
        const ssize_t received = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
        if (received < 0)
            return -1;
        const int next = mnl_cb_run(buffer.data(), static_cast<std::size_t>(received), 0,
                                    mnl_socket_get_portid(socket.get()), count_filter, &filters);
        if (next <= MNL_CB_STOP)
            return next == MNL_CB_STOP ? filters : -1;
    }
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
        const bpf_tc_opts filter = our_filter();
        bpf_tc_detach(&hook, &filter);
    }
    if (!created_qdisc || filters_in(interface, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)) != 0 ||
        filters_in(interface, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)) != 0)
        return;
    bpf_tc_hook hook = hook_of(interface, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
}

}  // namespace pangolin
