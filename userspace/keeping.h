// How what counts in the kernel outlives the process: what its monitors have in common.
#pragma once

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/base/error.h"
#include "loader/pin_root.h"

namespace pangolin {

struct MonitorKeeping {
    // Null: programs and maps end with the process.
    const PinRoot* pins = nullptr;
    // Writes the state of all monitors down and calls forget_written() of them: before something comes into
    // use.
    std::function<void()> write_state = [] {};
    // Whether what was restored from the state file says what is pinned: both are of this boot, and neither
    // is older than the other allows.
    bool resumes = false;
};

// Programs that are replaced as a Takeover does it, and where they are pinned according to the state.
//
// A `Program`, or a pointer to one, is made by `load(const std::optional<KeptPins>&)` and has start(). Its
// counts are credited by whoever has it: `credit(const PinFolder&)` is called for maps that count no more,
// and `restart()` when the counts that are credited next begin at zero.
class KeptPrograms {
  public:
    // As for PinRoot::kept().
    explicit KeptPrograms(std::string name) : name_(std::move(name)) {}

    // The folder in the root that belongs to the state; empty when nothing is pinned. Belongs into the state
    // file beside how much is credited.
    const std::string& written() const { return written_; }
    void restore(std::string written) { written_ = std::move(written); }

    // Starts programs in the place of those that another process left, if it did: all that is counted from
    // its last state on is credited once, wherever a kill may fall.
    template <class Program, class Load, class Credit, class Restart>
    Result<Program> start(const MonitorKeeping& keeping, Load load, Credit credit, Restart restart) {
        if (keeping.pins == nullptr)
            return started(load(std::nullopt));
        KeptPins pins = keeping.pins->kept(name_, written_);
        Result<Program> program = load(pins);
        if (!program && program.error().code == ESTALE) {
            pins = keeping.pins->renewed(std::move(pins));
            program = load(pins);
        }
        const std::string folder = keeping.pins->path_in_root(pins.folder);
        if (program && pins.before.empty() && folder != written_) {
            restart();
            written_ = folder;
        }
        // The kernel does not count in what nobody knows.
        keeping.write_state();
        program = started(std::move(program));
        std::vector<PinFolder> over = pins.before;
        if (!program)
            over.push_back(pins.folder);
        if (!over.empty())
            hand_over(keeping, over, program ? folder : std::string(), credit, restart);
        return program;
    }

    // There are to be none any more: what they counted is credited, and they are removed.
    template <class Credit, class Restart>
    void end(const MonitorKeeping& keeping, Credit credit, Restart restart) {
        if (keeping.pins == nullptr)
            return;
        KeptPins pins = keeping.pins->kept(name_, written_);
        pins.before.push_back(pins.folder);
        hand_over(keeping, pins.before, {}, credit, restart);
    }

  private:
    template <class Program>
    static Result<Program> started(Result<Program> program) {
        if (program)
            if (auto result = object(*program).start(); !result)
                return std::unexpected(result.error());
        return program;
    }
    template <class Program>
    static Program& object(Program& program) {
        return program;
    }
    template <class Program>
    static Program& object(std::unique_ptr<Program>& program) {
        return *program;
    }

    template <class Credit, class Restart>
    void hand_over(const MonitorKeeping& keeping, const std::vector<PinFolder>& over, std::string now,
                   Credit credit, Restart restart) {
        // The first of them may be what the state knows; the others began at zero.
        for (const PinFolder& each : over) {
            if (keeping.pins->path_in_root(each) != written_)
                restart();
            credit(each);
        }
        restart();
        written_ = std::move(now);
        keeping.write_state();
        detach_pinned(over);
    }

    std::string name_;
    std::string written_;
};

}  // namespace pangolin
