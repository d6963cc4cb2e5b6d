#include "loader/network_hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "loader/base/number.h"
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

constexpr std::array<std::string_view, 2> directions{"ingress", "egress"};
constexpr std::string_view created_qdisc = "created_qdisc";

std::string link_name(std::string_view direction) {
    return std::string(direction) + "_link";
}

// A filter is known by its program's number. While it changes, two are pinned.
std::string program_prefix(std::string_view direction) {
    return std::string(direction) + "-";
}

Result<std::uint32_t> program_id(int fd) {
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (bpf_prog_get_info_by_fd(fd, &info, &length) != 0)
        return bpf_failure(errno, "cannot look at a BPF program");
    return info.id;
}

std::vector<std::uint32_t> pinned_programs(const PinFolder& pins, std::string_view direction) {
    std::vector<std::uint32_t> ids;
    const std::string prefix = program_prefix(direction);
    for (const std::string& name : pins.entries()) {
        if (!name.starts_with(prefix))
            continue;
        if (const auto id = parse_number<std::uint32_t>(std::string_view(name).substr(prefix.size())))
            ids.push_back(*id);
    }
    return ids;
}

Result<void> pin_programs(const PinFolder& pins, ProgramPair programs) {
    for (const auto& [direction, program] :
         {std::pair{directions[0], programs.ingress}, std::pair{directions[1], programs.egress}}) {
        const auto id = program_id(bpf_program__fd(program));
        if (!id)
            return std::unexpected(id.error());
        if (auto pinned = pins.pin(bpf_program__fd(program), program_prefix(direction) + std::to_string(*id));
            !pinned)
            return pinned;
    }
    return {};
}

void forget_other_programs(const PinFolder& pins, const ProgramIds& in_use) {
    for (const auto& [direction, used] :
         {std::pair{directions[0], in_use.ingress}, std::pair{directions[1], in_use.egress}}) {
        for (const std::uint32_t id : pinned_programs(pins, direction)) {
            if (id != used)
                pins.remove(program_prefix(direction) + std::to_string(id));
        }
    }
}

// In the calling thread's network namespace: which of the pinned programs are in filters of the interface.
ProgramIds attached_of(const NetworkInterface& interface, const PinFolder& pins) {
    ProgramIds found;
    for (const std::uint32_t id : pinned_programs(pins, directions[0]))
        found.ingress = has_clsact_filter(interface, TRAFFIC_INGRESS, id) ? id : found.ingress;
    for (const std::uint32_t id : pinned_programs(pins, directions[1]))
        found.egress = has_clsact_filter(interface, TRAFFIC_EGRESS, id) ? id : found.egress;
    return found;
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

NetworkHook& NetworkHook::operator=(NetworkHook&& other) noexcept {
    // What this hook had attached ends with `old`, at the end of this function.
    NetworkHook old(std::move(other));
    std::swap(interface_, old.interface_);
    std::swap(kind_, old.kind_);
    std::swap(ingress_, old.ingress_);
    std::swap(egress_, old.egress_);
    std::swap(attached_, old.attached_);
    std::swap(created_qdisc_, old.created_qdisc_);
    std::swap(pinned_, old.pinned_);
    return *this;
}

NetworkHook::NetworkHook(NetworkHook&& other) noexcept
    : interface_(std::move(other.interface_)),
      kind_(std::exchange(other.kind_, HookKind::none)),
      ingress_(std::move(other.ingress_)),
      egress_(std::move(other.egress_)),
      attached_(std::exchange(other.attached_, {})),
      created_qdisc_(std::exchange(other.created_qdisc_, false)),
      pinned_(std::exchange(other.pinned_, false)) {}

NetworkHook::~NetworkHook() {
    if (kind_ == HookKind::clsact && !pinned_)
        detach_clsact();
}

Result<NetworkHook> NetworkHook::attach(const NetworkInterface& interface, HookMode mode,
                                        ProgramPair programs, const PinFolder* pins) {
    NetworkHook hook;
    hook.interface_ = interface;
    const auto attached = run_in_network_namespace(interface.netns, [&]() -> Result<void> {
        if (mode == HookMode::clsact)
            return hook.attach_clsact(programs, pins);
        auto tcx = hook.attach_tcx(programs, pins);
        // Before 6.6 the attach type is unknown (EINVAL); that it is busy or forbidden is no reason for
        // clsact.
        if (!tcx && mode == HookMode::automatic && tcx.error().code == EINVAL)
            return hook.attach_clsact(programs, pins);
        return tcx;
    });
    if (!attached)
        return std::unexpected(attached.error());
    hook.pinned_ = pins != nullptr;
    return hook;
}

Result<void> NetworkHook::attach_tcx(ProgramPair programs, const PinFolder* pins) {
    const auto link_to = [&](bpf_program* program, std::string_view direction) -> Result<BpfLink> {
        bpf_tcx_opts place{};
        place.sz = sizeof place;
        place.flags = before_all_others;
        BpfLink link(bpf_program__attach_tcx(program, static_cast<int>(interface_.index), &place));
        if (!link)
            return bpf_failure(errno,
                               "cannot attach to tcx " + std::string(direction) + " of " + interface_.name);
        if (pins == nullptr)
            return link;
        if (auto pinned = pins->pin(bpf_link__fd(link.get()), link_name(direction)); !pinned)
            return std::unexpected(pinned.error());
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

Result<void> NetworkHook::attach_clsact(ProgramPair programs, const PinFolder* pins) {
    if (pins != nullptr)
        if (auto pinned = pin_programs(*pins, programs); !pinned)
            return pinned;
    auto created = create_clsact(interface_);
    if (!created)
        return std::unexpected(created.error());
    created_qdisc_ = *created;
    kind_ = HookKind::clsact;
    if (created_qdisc_ && pins != nullptr)
        if (auto noted = pins->below(created_qdisc).create(); !noted)
            spdlog::debug("{}", noted.error().message());
    const auto result = set_clsact_filters(interface_, programs, attached_, pins != nullptr);
    if (!result) {
        remove_clsact_filters(interface_, attached_, created_qdisc_);
        kind_ = HookKind::none;
    }
    return result;
}

Result<NetworkHook> NetworkHook::adopt(const NetworkInterface& interface, const PinFolder& from,
                                       ProgramPair programs, const PinFolder& to) {
    NetworkHook hook;
    hook.interface_ = interface;
    hook.ingress_.reset(bpf_link__open(from.path_of(link_name(directions[0])).c_str()));
    hook.egress_.reset(bpf_link__open(from.path_of(link_name(directions[1])).c_str()));
    if (hook.ingress_ && hook.egress_ && has_interface(hook.ingress_.get()) &&
        has_interface(hook.egress_.get())) {
        hook.kind_ = HookKind::tcx;
        hook.pinned_ = true;
        if (auto replaced = hook.replace(programs, &to); !replaced)
            return std::unexpected(replaced.error());
        return hook;
    }
    const auto adopted =
        run_in_network_namespace(interface.netns, [&] { return hook.adopt_clsact(from, programs, to); });
    if (!adopted)
        return std::unexpected(adopted.error());
    return hook;
}

Result<void> NetworkHook::adopt_clsact(const PinFolder& from, ProgramPair programs, const PinFolder& to) {
    attached_ = attached_of(interface_, from);
    if (attached_.ingress == 0 || attached_.egress == 0) {
        // Half of it is no use to anybody.
        remove_clsact_filters(interface_, attached_, false);
        return failure("nothing pinned in " + from.path() + " is attached to " + interface_.name, {}, ENOENT);
    }
    if (from.below(created_qdisc).exists())
        if (auto noted = to.below(created_qdisc).create(); !noted)
            return noted;
    created_qdisc_ = from.below(created_qdisc).exists();
    kind_ = HookKind::clsact;
    pinned_ = true;
    if (auto pinned = pin_programs(to, programs); !pinned)
        return pinned;
    if (auto set = set_clsact_filters(interface_, programs, attached_, true); !set)
        return set;
    forget_other_programs(to, attached_);
    return {};
}

void NetworkHook::detach(const NetworkInterface& interface, const PinFolder& pins) {
    const bool ours = pins.below(created_qdisc).exists();
    const auto detached = run_in_network_namespace(interface.netns, [&]() -> Result<void> {
        const ProgramIds attached = attached_of(interface, pins);
        if (attached.ingress != 0 || attached.egress != 0)
            remove_clsact_filters(interface, attached, ours);
        return {};
    });
    if (!detached)
        spdlog::debug("detaching from {}: {}", interface.name, detached.error().what);
}

bool NetworkHook::is_attached(const PinFolder& pins) {
    const BpfLink ingress(bpf_link__open(pins.path_of(link_name(directions[0])).c_str()));
    if (ingress)
        return has_interface(ingress.get());
    return !pinned_programs(pins, directions[0]).empty();
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

Result<void> NetworkHook::replace(ProgramPair programs, const PinFolder* pins) {
    if (kind_ == HookKind::clsact)
        return run_in_network_namespace(interface_.netns, [&]() -> Result<void> {
            if (pins != nullptr)
                if (auto pinned = pin_programs(*pins, programs); !pinned)
                    return pinned;
            return set_clsact_filters(interface_, programs, attached_, pinned_);
        });
    if (pins != nullptr) {
        for (const auto& [link, direction] :
             {std::pair{ingress_.get(), directions[0]}, std::pair{egress_.get(), directions[1]}}) {
            if (auto pinned = pins->pin(bpf_link__fd(link), link_name(direction)); !pinned)
                return pinned;
        }
    }
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
