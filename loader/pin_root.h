// Where all that outlives this process is: see "What outlives the process" in README.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/network_interface.h"
#include "loader/pin_folder.h"
#include "loader/takeover.h"

namespace pangolin {

// Changes with any change of what maps hold: sizes of values, meaning of elements, names of maps.
inline constexpr std::string_view pin_layout = "layout-1";

// What a state file has to be for the pins of a root to be understood with it.
struct PinEpoch {
    // The name that the first state file of these pins was given.
    std::array<std::uint8_t, 16> instance{};
    // The least sequence number.
    std::uint64_t sequence = 0;

    bool operator==(const PinEpoch&) const = default;
};

// Holds the root locked against other exporters.
class PinRoot {
  public:
    // Makes the folder. Fails where no BPF filesystem is, and, with EWOULDBLOCK as the error's code, when
    // another exporter uses it.
    static Result<PinRoot> open(const std::string& path);

    // Of an interface; made when something is pinned there. `path_in_root` is PinFolder::path() without the
    // root, as it may be kept in files.
    PinFolder interface(const NetworkInterface& interface) const;
    // The pins of programs that are replaced as a Takeover does it: of the whole host ("sockets"), or
    // programs_of() an interface. `written` is the folder, as a path in the root, that another process wrote
    // down as the one that it used last; empty: what there is cannot be understood, and is removed.
    KeptPins kept(std::string_view programs, const std::string& written) const;
    static std::string programs_of(const NetworkInterface& interface, std::string_view programs);
    // A new folder instead of kept().folder, which becomes one of those before.
    KeptPins renewed(KeptPins pins) const;
    PinFolder folder(std::string_view path_in_root) const { return root_.below(path_in_root); }
    std::string path_in_root(const PinFolder& folder) const;

    // None while there are no pins.
    std::optional<PinEpoch> epoch() const;
    Result<void> set_epoch(const PinEpoch& epoch);

    // Every folder of a generation of traffic programs, of all layouts, as a path in the root.
    std::vector<std::string> generations() const;
    // Folders of an interface's other programs, for those interfaces that `known` says no to.
    std::vector<PinFolder> forgotten(const std::function<bool(const PinFolder& traffic)>& known) const;

  private:
    std::vector<PinFolder> generations_of(std::string_view name) const;
    // Its number is greater than `after` and than that of any other.
    PinFolder next_generation(std::string_view name, std::uint32_t after) const;

    PinFolder root_{""};
    UniqueFd lock_;
    UniqueFd epoch_;
};

// Pinned programs as they are found, by whomever they were made.
struct PinnedPrograms {
    struct Interface {
        // Of the namespace, and the interface's index in it.
        std::uint64_t netns_inode = 0;
        std::uint64_t netns_cookie = 0;
        unsigned index = 0;
    };

    PinFolder folder;
    // None: they are of the whole host.
    std::optional<Interface> interface;
    // "traffic", "sockets"...
    std::string name;
    // Whether what they watch is there and has our programs.
    bool attached = false;
};

// That of the pins in `root`, whoever uses them; none where there are none.
std::optional<PinEpoch> read_pin_epoch(const std::string& root);

// What is attached below `root`, for people. Takes no lock.
std::vector<PinnedPrograms> list_pinned(const std::string& root);

// Detaches what is pinned in a generation's folder and removes it: filters and a qdisc of ours by name of the
// interface where its namespace still is, links by removing them.
void detach_pinned(const PinFolder& generation, const std::vector<NetworkNamespace>& namespaces);

// The same of several, wherever their interfaces are.
void detach_pinned(const std::vector<PinFolder>& generations);

// Detaches and removes all that any exporter has pinned below `root`. Returns how many sets of programs there
// were: the traffic's of an interface, the sockets'...
// Fails while an exporter runs on it.
Result<std::size_t> detach_all(const std::string& root);

}  // namespace pangolin
