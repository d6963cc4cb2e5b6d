#include "loader/network_hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <string>
#include <utility>

#include "loader/bpf_error.h"
#include "loader/clsact.h"

namespace pangolin {
namespace {

// BPF_F_BEFORE of <linux/bpf.h>, which has it only since Linux 6.6: without another program to be before, the
// head of the chain.
constexpr std::uint32_t before_all_others = 1U << 3;

// The kernel forgets the interface of a tcx link that was detached or whose interface is gone.
bool has_interface(const bpf_link* link) {
    bpf_link_info info{};
    std::uint32_t length = sizeof info;
    if (bpf_link_get_info_by_fd(bpf_link__fd(link), &info, &length) != 0)
        return true;
    // `tcx.ifindex`, which headers before Linux 6.6 lack, is in the place of `xdp.ifindex`.
    return info.xdp.ifindex != 0;
}

}  // namespace

std::string_view to_string(HookKind kind) {
    switch (kind) {
        case HookKind::tcx:
            return "tcx";
        case HookKind::clsact:
            return "clsact";
        case HookKind::none:
            break;
    }
    return "none";
}

void NetworkHook::LinkDeleter::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}

NetworkHook& NetworkHook::operator=(NetworkHook&& other) noexcept {
    // What this hook had attached ends with `old`, at the end of this function.
    NetworkHook old(std::move(other));
    std::swap(interface_, old.interface_);
    std::swap(kind_, old.kind_);
    std::swap(ingress_, old.ingress_);
    std::swap(egress_, old.egress_);
    std::swap(attached_, old.attached_);
    std::swap(created_qdisc_, old.created_qdisc_);
    return *this;
}

NetworkHook::NetworkHook(NetworkHook&& other) noexcept
    : interface_(std::move(other.interface_)),
      kind_(std::exchange(other.kind_, HookKind::none)),
      ingress_(std::move(other.ingress_)),
      egress_(std::move(other.egress_)),
      attached_(std::exchange(other.attached_, {})),
      created_qdisc_(std::exchange(other.created_qdisc_, false)) {}

NetworkHook::~NetworkHook() {
    if (kind_ == HookKind::clsact)
        detach_clsact();
}

Result<NetworkHook> NetworkHook::attach(const NetworkInterface& interface, HookMode mode,
                                        ProgramPair programs) {
    NetworkHook hook;
    hook.interface_ = interface;
    const auto attached = run_in_network_namespace(interface.netns, [&]() -> Result<void> {
        if (mode == HookMode::clsact)
            return hook.attach_clsact(programs);
        auto tcx = hook.attach_tcx(programs);
        // Before 6.6 the attach type is unknown (EINVAL); that it is busy or forbidden is no reason for
        // clsact.
        if (!tcx && mode == HookMode::automatic && tcx.error().code == EINVAL)
            return hook.attach_clsact(programs);
        return tcx;
    });
    if (!attached)
        return std::unexpected(attached.error());
    return hook;
}

Result<void> NetworkHook::attach_tcx(ProgramPair programs) {
    const auto link_to = [this](bpf_program* program, std::string_view direction) -> Result<Link> {
        bpf_tcx_opts place{};
        place.sz = sizeof place;
        place.flags = before_all_others;
        Link link(bpf_program__attach_tcx(program, static_cast<int>(interface_.index), &place));
        if (!link)
            return bpf_failure(errno,
                               "cannot attach to tcx " + std::string(direction) + " of " + interface_.name);
        return link;
    };
    auto ingress = link_to(programs.ingress, "ingress");
    if (!ingress)
        return std::unexpected(ingress.error());
    auto egress = link_to(programs.egress, "egress");
    if (!egress)
        return std::unexpected(egress.error());
    ingress_ = std::move(*ingress);
    egress_ = std::move(*egress);
    kind_ = HookKind::tcx;
    return {};
}

Result<void> NetworkHook::attach_clsact(ProgramPair programs) {
    auto created = create_clsact(interface_);
    if (!created)
        return std::unexpected(created.error());
    created_qdisc_ = *created;
    kind_ = HookKind::clsact;
    const auto result = set_clsact_filters(interface_, programs, attached_);
    if (!result) {
        remove_clsact_filters(interface_, attached_, created_qdisc_);
        kind_ = HookKind::none;
    }
    return result;
}

void NetworkHook::detach_clsact() {
    auto detached = run_in_network_namespace(interface_.netns, [this]() -> Result<void> {
        remove_clsact_filters(interface_, attached_, created_qdisc_);
        return {};
    });
    // A namespace that is gone took its filters with it.
    if (!detached)
        spdlog::debug("detaching from {}: {}", interface_.name, detached.error().what);
    kind_ = HookKind::none;
}

Result<void> NetworkHook::replace(ProgramPair programs) {
    if (kind_ == HookKind::clsact)
        return run_in_network_namespace(interface_.netns,
                                        [&] { return set_clsact_filters(interface_, programs, attached_); });
    for (const auto& [link, program] :
         {std::pair{ingress_.get(), programs.ingress}, std::pair{egress_.get(), programs.egress}}) {
        if (const int error = bpf_link__update_program(link, program); error != 0)
            return bpf_failure(-error, "cannot replace the program on " + interface_.name);
    }
    return {};
}

bool NetworkHook::attached() const {
    if (kind_ == HookKind::tcx)
        return has_interface(ingress_.get()) && has_interface(egress_.get());
    if (kind_ == HookKind::none)
        return false;
    bool found = false;
    const auto looked = run_in_network_namespace(interface_.netns, [&]() -> Result<void> {
        found = has_clsact_filters(interface_, attached_);
        return {};
    });
    return looked ? found : looked.error().code != ENOENT;
}

}  // namespace pangolin
