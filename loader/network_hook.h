// Attachment of a pair of programs to the two directions of an interface.
#pragma once

#include <cstdint>
#include <string_view>

#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/network_interface.h"
#include "loader/pin_folder.h"

struct bpf_program;

namespace pangolin {

enum class HookKind : std::uint8_t { none, tcx, clsact };
std::string_view to_string(HookKind kind);

// metrics.wireguard.attach: `automatic` prefers tcx (Linux 6.6), where several users share a hook in peace
// and a link's end is the attachment's end.
enum class HookMode : std::uint8_t { automatic, tcx, clsact };

struct ProgramPair {
    bpf_program* ingress = nullptr;
    bpf_program* egress = nullptr;
};

// The kernel's numbers of the programs that are attached; 0 where there is none.
struct ProgramIds {
    std::uint32_t ingress = 0;
    std::uint32_t egress = 0;
};

// Attaches in front of what is attached already, because a program that ends the chain hides the packet from
// those behind it; ours pass it on. One that comes later may go in front of ours.
//
// Detaches at the end of its life, unless it is pinned. Enters the interface's namespace for the time of a
// call only.
class NetworkHook {
  public:
    NetworkHook() = default;
    NetworkHook(NetworkHook&& other) noexcept;
    NetworkHook& operator=(NetworkHook&& other) noexcept;
    ~NetworkHook();

    // With `pins` the attachment is pinned there, and outlives this process from its first packet on.
    static Result<NetworkHook> attach(const NetworkInterface& interface, HookMode mode, ProgramPair programs,
                                      const PinFolder* pins = nullptr);

    // Takes over what is pinned in `from` and still attached to `interface`, with `programs` in the place of
    // those that were, and pins it in `to`, which may be `from`. ENOENT as the error's code: nothing pinned
    // is attached any more.
    static Result<NetworkHook> adopt(const NetworkInterface& interface, const PinFolder& from,
                                     ProgramPair programs, const PinFolder& to);

    // Detaches from `interface` what is pinned in `pins`, as far as it does not end with its pins.
    static void detach(const NetworkInterface& interface, const PinFolder& pins);
    // Whether what is pinned in `pins` is attached to anything, as far as that can be told from outside of
    // the interface's namespace: a filter's program is taken for attached.
    static bool is_attached(const PinFolder& pins);

    // Puts `programs` in the place of those attached, atomically for each direction. With `pins` a pinned
    // attachment is pinned there, too.
    Result<void> replace(ProgramPair programs, const PinFolder* pins = nullptr);
    // From now on it ends with this hook, as soon as its pins are removed.
    void unpin() { pinned_ = false; }

    // Where the interface's namespace can be entered now; the process that the path leads over may end.
    void set_namespace(const NetworkNamespace& netns) { interface_.netns = netns; }

    HookKind kind() const { return kind_; }

    // Whether both directions still have our programs: the interface may be gone, or somebody may have
    // detached them ("tc qdisc del"). Cheap enough to ask once a second. True as well when the kernel does
    // not let us look.
    bool attached() const;

  private:
    Result<void> attach_tcx(ProgramPair programs, const PinFolder* pins);
    Result<void> attach_clsact(ProgramPair programs, const PinFolder* pins);
    Result<void> adopt_clsact(const PinFolder& from, ProgramPair programs, const PinFolder& to);
    void detach_clsact();

    NetworkInterface interface_;
    HookKind kind_ = HookKind::none;
    BpfLink ingress_;
    BpfLink egress_;
    // Of clsact only.
    ProgramIds attached_;
    bool created_qdisc_ = false;
    bool pinned_ = false;
};

}  // namespace pangolin
