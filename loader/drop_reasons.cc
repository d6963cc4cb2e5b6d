#include "loader/drop_reasons.h"

#include <algorithm>
#include <cctype>

#include "loader/kernel_btf.h"

namespace pangolin {
namespace {

constexpr std::string_view not_specified = "not_specified";
// Beyond this are the reasons of subsystems (SKB_DROP_REASON_SUBSYS_MASK in include/net/dropreason.h).
constexpr std::uint32_t most_reasons = 0x10000;

// "SKB_DROP_REASON_NETFILTER_DROP" or "SKB_CONSUMED" as a label's value; empty for what is no reason.
std::string label_of(std::string_view name) {
    for (const std::string_view prefix : {"SKB_DROP_REASON_", "SKB_"}) {
        if (name.starts_with(prefix)) {
            name.remove_prefix(prefix.size());
            break;
        }
    }
    if (name == "MAX" || name == "SUBSYS_MASK")
        return {};
    std::string label(name);
    std::ranges::transform(label, label.begin(), [](unsigned char letter) { return std::tolower(letter); });
    return label;
}

}  // namespace

DropReasons DropReasons::of_this_kernel() {
    const auto kernel = KernelBtf::load();
    return kernel ? of(*kernel) : DropReasons();
}

DropReasons DropReasons::of(const KernelBtf& kernel) {
    return DropReasons(kernel.enumerators("skb_drop_reason"));
}

DropReasons::DropReasons(const std::vector<std::pair<std::string, std::uint32_t>>& enumerators) {
    for (const auto& [name, value] : enumerators) {
        if (value >= most_reasons)
            continue;
        if (value >= names_.size())
            names_.resize(value + 1);
        names_[value] = label_of(name);
    }
}

std::string DropReasons::name(std::uint32_t reason) const {
    if (names_.empty() && reason == 0)
        return std::string(not_specified);
    if (reason < names_.size() && !names_[reason].empty())
        return names_[reason];
    return "reason_" + std::to_string(reason);
}

std::optional<std::uint32_t> DropReasons::number(std::string_view name) const {
    const auto found = std::ranges::find(names_, name);
    if (found == names_.end() || name.empty())
        return {};
    return static_cast<std::uint32_t>(found - names_.begin());
}

bool DropReasons::benign(std::uint32_t reason) const {
    // The last one is of copies for packet sockets (tcpdump), which are dropped when nobody reads them.
    static constexpr std::string_view no_drops[] = {"not_dropped_yet", "consumed", "packet_sock_error"};
    return reason < names_.size() && std::ranges::find(no_drops, names_[reason]) != std::end(no_drops);
}

bool DropReasons::unspecified(std::uint32_t reason) const {
    return name(reason) == not_specified;
}

std::vector<std::uint32_t> DropReasons::benign_reasons() const {
    std::vector<std::uint32_t> reasons;
    for (std::uint32_t reason = 0; reason < names_.size(); ++reason) {
        if (benign(reason))
            reasons.push_back(reason);
    }
    return reasons;
}

}  // namespace pangolin
