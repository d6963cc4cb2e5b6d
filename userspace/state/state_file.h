// The file that carries totals over restarts: written so that a kill, or a loss of power, at any moment
// leaves a good one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"

namespace pangolin {

// What was written, and by whom.
struct StateContent {
    // The name of this file and all that follow it: a new one begins with another.
    std::array<std::uint8_t, 16> instance{};
    // Grows with each writing.
    std::uint64_t sequence = 0;
    std::vector<std::uint8_t> payload;
};

// Two files: `state` is on the disk (fsync) and old by up to a minute, `state.recent` is newer and safe
// against everything but a loss of power, so that it may be written with every scrape. The newer good one
// counts.
//
// A file is a header (magic, version of the format, instance, sequence number, length) with the payload and
// the SHA-256 of all before. Holds the folder locked against other exporters. Not thread-safe.
class StateFile {
  public:
    // Makes the folder. EWOULDBLOCK as the error's code: another exporter has it.
    static Result<StateFile> open(const std::string& folder);

    // The newest good content; none when there is none. What is torn or foreign is renamed to NAME.bad, which
    // the log says.
    std::optional<StateContent> read();

    // Replaces the file at once. `on_disk` waits until it is there.
    Result<void> write(const std::array<std::uint8_t, 16>& instance, std::uint64_t sequence,
                       std::span<const std::uint8_t> payload, bool on_disk);

    // The content of a file, or what is wrong with it.
    static Result<StateContent> parse(std::span<const std::uint8_t> file);

  private:
    std::optional<StateContent> read(const std::string& name);

    std::string folder_;
    UniqueFd lock_;
};

}  // namespace pangolin
