// Follows a file to which another program appends lines.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"

namespace pangolin {

// What is there at the first look is history and skipped; what comes later is read from its beginning, also
// when the file did not exist at first. Rotation by renaming: the old file is read on until its writer has
// gone over to the new one. A file that came and was renamed between two looks is missed. By copying and
// truncating: what was written between both is lost to every reader. Not thread-safe.
class LogTail {
  public:
    using Clock = std::chrono::steady_clock;
    // A line without its end.
    using LineHandler = std::function<void(std::string_view)>;

    explicit LogTail(std::string path) : path_(std::move(path)) {}

    // Reads what is new, up to a limit: true when there is more. An error when the file cannot be opened or
    // read; a later call may find it.
    Result<bool> read(const LineHandler& handle, Clock::time_point now = Clock::now());

    const std::string& path() const { return path_; }

    // The end of the last line that was handled, for a LogTail that goes on in another process. 0 and 0: of
    // no file.
    struct Position {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::uint64_t offset = 0;
    };
    Position position() const;
    // Before the first read(). Where it is another file by now, that is read from its beginning.
    void resume(const Position& position) { resumed_ = position; }

    // Lines beyond the length that is taken: not handled, and counted here.
    std::uint64_t too_long() const { return too_long_; }

    static constexpr std::size_t longest_line = std::size_t{64} << 10;

  private:
    struct File {
        UniqueFd descriptor;
        dev_t device = 0;
        ino_t inode = 0;
        off_t offset = 0;
        // The beginning of a line whose end is not there yet.
        std::string partial;
        // Up to the next line's beginning everything is dropped.
        bool skipping = false;
        Clock::time_point grown;
    };

    Result<void> open_current(Clock::time_point now);
    // True when there is more than the limit.
    Result<bool> read_file(File& file, const LineHandler& handle, Clock::time_point now);
    void take(File& file, std::string_view bytes, const LineHandler& handle);

    const std::string path_;
    // The newest one last; those before have been renamed or removed.
    std::list<File> files_;
    bool looked_ = false;
    std::optional<Position> resumed_;
    std::uint64_t too_long_ = 0;
};

}  // namespace pangolin
