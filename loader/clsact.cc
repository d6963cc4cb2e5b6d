#include "loader/clsact.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/netlink.h"

namespace pangolin {
namespace {

// A handle is the process id (below 2^22, PID_MAX_LIMIT in linux/threads.h) and, above it, a tag of the PID
// namespace in which it is one: two exporters do not take each other's place, and what a killed one has left
// is known by its dead owner. What is to outlive its process has no owner, the process id 0.
constexpr unsigned pid_bits = 22;
constexpr std::uint32_t namespace_tags = (1U << (32 - pid_bits)) - 1;

// 1 to namespace_tags: above the handles that the kernel hands out by itself. 0 if there is no telling.
std::uint32_t pid_namespace_tag() {
    struct stat file{};
    if (stat("/proc/self/ns/pid", &file) != 0)
        return 0;
    // The kernel numbers namespaces consecutively, so that the remainder parts neighbours.
    return static_cast<std::uint32_t>(file.st_ino % namespace_tags) + 1;
}

std::uint32_t new_handle(bool pinned) {
    return pid_namespace_tag() << pid_bits | (pinned ? 0U : static_cast<std::uint32_t>(::getpid()));
}

// Where a filter is; programs of one priority take turns, the newest first. `takes_programs` says that
// others can be added at this priority: it holds BPF programs for all protocols.
struct Filter {
    std::uint32_t priority = 0;
    std::uint32_t handle = 0;
    bool takes_programs = false;
};

bpf_tc_hook hook_of(const NetworkInterface& interface, bpf_tc_attach_point point) {
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(interface.index);
    hook.attach_point = point;
    return hook;
}

bpf_tc_opts options_of(const Filter& filter) {
    bpf_tc_opts options{};
    options.sz = sizeof options;
    options.handle = filter.handle;
    options.priority = filter.priority;
    return options;
}

// The program in a filter; 0 when there is none.
std::uint32_t program_in(const bpf_tc_hook& hook, const Filter& filter) {
    bpf_tc_opts found = options_of(filter);
    return bpf_tc_query(&hook, &found) == 0 ? found.prog_id : 0;
}

std::string program_name(std::uint32_t id) {
    const UniqueFd program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (!program || bpf_prog_get_info_by_fd(program.get(), &info, &length) != 0)
        return {};
    return info.name;
}

// The filters of one direction of the interface's clsact. A priority's head is one with handle 0.
Result<std::vector<Filter>> list_filters(const NetworkInterface& interface, bpf_tc_attach_point point) {
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
        if (message.nlmsg_type != RTM_NEWTFILTER || message.nlmsg_len < NLMSG_LENGTH(sizeof(tcmsg)))
            return {};
        tcmsg header{};
        std::memcpy(&header, mnl_nlmsg_get_payload(&message), sizeof header);
        bool is_bpf = false;
        for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof header))
            is_bpf = is_bpf || (attribute.type == TCA_KIND && attribute.text() == "bpf");
        filters.push_back({TC_H_MAJ(header.tcm_info) >> 16, header.tcm_handle,
                           is_bpf && TC_H_MIN(header.tcm_info) == htons(ETH_P_ALL)});
        return {};
    });
    if (!listed)
        return std::unexpected(listed.error());
    return filters;
}

// A filter that an exporter has left behind that was killed in our PID namespace.
bool abandoned(const bpf_tc_hook& hook, const Filter& filter, const bpf_program* program) {
    const std::uint32_t tag = pid_namespace_tag();
    const auto owner = static_cast<pid_t>(filter.handle & ((1U << pid_bits) - 1));
    if (tag == 0 || filter.handle >> pid_bits != tag || owner == 0 || ::kill(owner, 0) == 0 || errno != ESRCH)
        return false;
    // The kernel cuts names.
    const std::string_view name = bpf_program__name(program);
    return program_name(program_in(hook, filter)) == name.substr(0, BPF_OBJ_NAME_LEN - 1);
}

// The first place that a filter can be added at. Lower priorities run first; 0 would be the kernel's choice.
// Several filters of one handle have each a priority of its own.
Filter free_place(const std::vector<Filter>& filters, bool pinned) {
    Filter place{.priority = 1, .handle = new_handle(pinned)};
    const auto is_barred = [&](const Filter& other) {
        return other.priority == place.priority && (!other.takes_programs || other.handle == place.handle);
    };
    while (std::ranges::any_of(filters, is_barred))
        ++place.priority;
    return place;
}

// The filter with `program` in it; none for 0.
std::optional<Filter> own_filter(const bpf_tc_hook& hook, const std::vector<Filter>& filters,
                                 std::uint32_t program) {
    const auto own = std::ranges::find_if(filters, [&](const Filter& each) {
        return each.handle != 0 && program != 0 && program_in(hook, each) == program;
    });
    return own == filters.end() ? std::nullopt : std::optional(*own);
}

Result<void> set_filter(const NetworkInterface& interface, bpf_tc_attach_point point,
                        const bpf_program* program, std::uint32_t& attached, bool pinned) {
    const bpf_tc_hook hook = hook_of(interface, point);
    const auto filters = list_filters(interface, point);
    if (!filters)
        return std::unexpected(filters.error());
    for (const Filter& filter : *filters) {
        if (!abandoned(hook, filter, program))
            continue;
        const bpf_tc_opts old = options_of(filter);
        bpf_tc_detach(&hook, &old);
    }
    const auto own = own_filter(hook, *filters, attached);
    bpf_tc_opts filter = options_of(own ? *own : free_place(*filters, pinned));
    filter.prog_fd = bpf_program__fd(program);
    filter.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &filter); error != 0)
        return bpf_failure(-error, "cannot attach to clsact of " + interface.name);
    attached = filter.prog_id;
    return {};
}

std::optional<Filter> own_filter(const NetworkInterface& interface, bpf_tc_attach_point point,
                                 std::uint32_t program) {
    return own_filter(hook_of(interface, point),
                      list_filters(interface, point).value_or(std::vector<Filter>{}), program);
}

bool unused(const NetworkInterface& interface, bpf_tc_attach_point point) {
    const auto filters = list_filters(interface, point);
    return filters && std::ranges::all_of(*filters, [](const Filter& each) { return each.handle == 0; });
}

}  // namespace

Result<bool> create_clsact(const NetworkInterface& interface) {
    bpf_tc_hook hook = hook_of(interface, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    const int error = bpf_tc_hook_create(&hook);
    if (error != 0 && error != -EEXIST)
        return bpf_failure(-error, "cannot create the clsact qdisc of " + interface.name);
    return error == 0;
}

Result<void> set_clsact_filters(const NetworkInterface& interface, ProgramPair programs, ProgramIds& attached,
                                bool pinned) {
    if (auto set = set_filter(interface, BPF_TC_INGRESS, programs.ingress, attached.ingress, pinned); !set)
        return set;
    return set_filter(interface, BPF_TC_EGRESS, programs.egress, attached.egress, pinned);
}

bool has_clsact_filter(const NetworkInterface& interface, traffic_direction direction,
                       std::uint32_t program) {
    return own_filter(interface, direction == TRAFFIC_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS, program)
        .has_value();
}

bool has_clsact_filters(const NetworkInterface& interface, const ProgramIds& attached) {
    return own_filter(interface, BPF_TC_INGRESS, attached.ingress) &&
           own_filter(interface, BPF_TC_EGRESS, attached.egress);
}

void remove_clsact_filters(const NetworkInterface& interface, const ProgramIds& attached,
                           bool created_qdisc) {
    for (const auto& [point, program] :
         {std::pair{BPF_TC_INGRESS, attached.ingress}, std::pair{BPF_TC_EGRESS, attached.egress}}) {
        const auto own = own_filter(interface, point, program);
        if (!own)
            continue;
        const bpf_tc_hook hook = hook_of(interface, point);
        const bpf_tc_opts filter = options_of(*own);
        bpf_tc_detach(&hook, &filter);
    }
    if (!created_qdisc || !unused(interface, BPF_TC_INGRESS) || !unused(interface, BPF_TC_EGRESS))
        return;
    bpf_tc_hook hook = hook_of(interface, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
}

}  // namespace pangolin
