// What the kernel calls its reasons to drop a packet.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pangolin {

class KernelBtf;

// Names of the running kernel's drop reasons, from its own BTF: their numbers change between kernels.
class DropReasons {
  public:
    // Empty where the kernel does not tell its types.
    static DropReasons of_this_kernel();
    static DropReasons of(const KernelBtf& kernel);
    // Of the enum's names as the kernel has them ("SKB_DROP_REASON_NETFILTER_DROP") and their values.
    explicit DropReasons(const std::vector<std::pair<std::string, std::uint32_t>>& enumerators);
    DropReasons() = default;

    // "netfilter_drop" for SKB_DROP_REASON_NETFILTER_DROP, "not_specified" where the kernel gives no reason.
    std::string name(std::uint32_t reason) const;
    // The reason of that name; none where the kernel does not have it.
    std::optional<std::uint32_t> number(std::string_view name) const;
    // Frees that lose no packet: SKB_NOT_DROPPED_YET, SKB_CONSUMED, and copies that a packet socket has no
    // room for.
    bool benign(std::uint32_t reason) const;
    std::vector<std::uint32_t> benign_reasons() const;
    // SKB_DROP_REASON_NOT_SPECIFIED, or a kernel that gives no reasons.
    bool unspecified(std::uint32_t reason) const;

  private:
    std::vector<std::string> names_;
};

}  // namespace pangolin
