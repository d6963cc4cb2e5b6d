// Programs of one BPF object in the place of those that another process has left attached: every event is
// counted once, by the ones or by the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "loader/bpf_error.h"
#include "loader/bpf_handles.h"
#include "loader/pin_folder.h"

struct bpf_map;
struct bpf_object;
struct bpf_program;

namespace pangolin {

// Where the maps and links of an object are that outlive the process.
struct KeptPins {
    // Empty, or with maps that are to be used on.
    PinFolder folder;
    // Other maps of programs that are to be replaced, the last ones at the end.
    std::vector<PinFolder> before;
};

// A program of a control group is replaced in its link. One of a tracepoint or a function is attached beside
// the one of before and begins to count when that one ends, at open(): it has to ask is_in_force()
// (bpf/gate.bpf.h) first. Detaches at its end, but what is pinned. Not thread-safe.
class Takeover {
  public:
    Takeover() = default;

    // For an object that is sized and not loaded yet, with `gate` as its map of that name, null where all of
    // its programs are replaced in their places: makes it use what is pinned in its folder. None: nothing
    // outlives the process. ESTALE as the error's code: the maps there are not those of this object, or have
    // not as much room as it asks for. Maps that the object was given before are somebody else's, and are
    // neither looked for nor pinned there.
    static Result<Takeover> prepare(bpf_object* object, bpf_map* gate, const std::optional<KeptPins>& pins);

    // To be the programs' constant before they are loaded.
    std::uint32_t generation() const { return generation_; }
    // Whether the maps are those of another process.
    bool resumes() const { return resumes_; }

    // The object is loaded: keeps its maps.
    Result<void> pin_maps();
    // Attaches the object's programs of tracepoints (tp_btf), of functions (fentry, fexit) and of none else.
    Result<void> attach_tracing();
    // From now on these programs count, and those of before do not.
    Result<void> open();
    // After open(), for all programs of control groups that the object has; again and again. Where they are
    // attached and that is in none of `folders`, they are detached.
    Result<void> attach_to_cgroups(const std::vector<bpf_program*>& programs,
                                   const std::vector<std::string>& folders);

    std::size_t attachments() const { return links_.size() + cgroup_links_.size(); }
    // Of these, at control groups.
    std::size_t cgroup_attachments() const { return cgroup_links_.size(); }
    const std::optional<KeptPins>& pins() const { return pins_; }
    // Whether programs are attached by way of what is pinned in `pins`.
    static bool is_attached(const PinFolder& pins);

  private:
    Result<void> use_pinned();
    Result<BpfLink> link_to_cgroup(bpf_program* program, const std::string& folder, const std::string& name);

    bpf_object* object_ = nullptr;
    bpf_map* gate_map_ = nullptr;
    std::set<std::string> shared_;
    std::optional<KeptPins> pins_;
    std::uint32_t generation_ = 1;
    bool resumes_ = false;
    std::vector<BpfLink> links_;
    // By the names under which they are pinned.
    std::map<std::string, BpfLink> cgroup_links_;
};

// Loads an object that is opened and sized and has a gate, in the place of what is in `pins`, and keeps its
// maps. `what` is for errors ("the TCP BPF programs"). See Takeover::prepare().
template <class Skeleton>
Result<Takeover> load_taking_over(Skeleton& skeleton, const std::optional<KeptPins>& pins,
                                  std::string_view what) {
    auto takeover = Takeover::prepare(skeleton.obj, skeleton.maps.program_gate, pins);
    if (!takeover)
        return takeover;
    skeleton.rodata->generation = takeover->generation();
    if (const int error = Skeleton::load(&skeleton); error != 0)
        return bpf_failure(-error, "cannot load " + std::string(what));
    if (auto pinned = takeover->pin_maps(); !pinned)
        return std::unexpected(pinned.error());
    return takeover;
}

}  // namespace pangolin
