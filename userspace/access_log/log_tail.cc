#include "userspace/access_log/log_tail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace pangolin {
namespace {

// Of one call, so that its caller can look at other things meanwhile.
constexpr std::size_t most_bytes = std::size_t{8} << 20;
// Writers that are told to go over to a new file do so within moments.
constexpr std::chrono::seconds rotated_time{30};
constexpr std::size_t most_files = 4;

std::string hint_for(int code) {
    if (code == ENOENT || code == ENOTDIR)
        return "Traefik makes it where its accessLog.filePath says; set metrics.traefik.access_log to that "
               "file as "
               "this host sees it.";
    if (code == EACCES || code == EPERM)
        return "Run as root or let this user read it.";
    return "Check the path and the disk.";
}

}  // namespace

Result<void> LogTail::open_current(Clock::time_point now) {
    const bool first = !std::exchange(looked_, true);
    struct stat status{};
    if (::stat(path_.c_str(), &status) != 0)
        return system_failure(errno, "cannot read " + path_, hint_for(errno));
    if (!files_.empty() && files_.back().device == status.st_dev && files_.back().inode == status.st_ino)
        return {};
    if (!S_ISREG(status.st_mode))
        return failure("cannot read " + path_ + ": it is not a regular file", hint_for(ENOENT));
    File file;
    file.descriptor.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file.descriptor || ::fstat(file.descriptor.get(), &status) != 0)
        return system_failure(errno, "cannot read " + path_, hint_for(errno));
    file.device = status.st_dev;
    file.inode = status.st_ino;
    file.grown = now;
    if (first && resumed_) {
        const bool same = resumed_->device == file.device && resumed_->inode == file.inode &&
                          std::cmp_less_equal(resumed_->offset, status.st_size);
        file.offset = same ? static_cast<off_t>(resumed_->offset) : 0;
    } else if (first) {
        file.offset = status.st_size;
        char last = '\n';
        file.skipping = file.offset > 0 &&
                        (::pread(file.descriptor.get(), &last, 1, file.offset - 1) != 1 || last != '\n');
    }
    files_.push_back(std::move(file));
    if (files_.size() > most_files)
        files_.pop_front();
    return {};
}

LogTail::Position LogTail::position() const {
    if (files_.empty())
        return {};
    const File& file = files_.back();
    return {.device = file.device,
            .inode = file.inode,
            .offset = static_cast<std::uint64_t>(file.offset) - file.partial.size()};
}

void LogTail::take(File& file, std::string_view bytes, const LineHandler& handle) {
    while (!bytes.empty()) {
        const auto end = bytes.find('\n');
        const std::string_view part = bytes.substr(0, end);
        const bool whole = end != std::string_view::npos;
        if (!file.skipping && file.partial.size() + part.size() > longest_line) {
            ++too_long_;
            file.partial.clear();
            file.skipping = true;
        }
        if (!file.skipping && (!whole || !file.partial.empty()))
            file.partial += part;
        if (!whole)
            return;
        if (!file.skipping)
            handle(file.partial.empty() ? part : std::string_view(file.partial));
        file.partial.clear();
        file.skipping = false;
        bytes.remove_prefix(end + 1);
    }
}

Result<bool> LogTail::read_file(File& file, const LineHandler& handle, Clock::time_point now) {
    std::array<char, std::size_t{64} << 10> buffer;
    for (std::size_t done = 0; done < most_bytes;) {
        const ssize_t count = ::pread(file.descriptor.get(), buffer.data(), buffer.size(), file.offset);
        if (count < 0)
            return system_failure(errno, "cannot read " + path_, hint_for(errno));
        if (count == 0) {
            struct stat status{};
            if (::fstat(file.descriptor.get(), &status) != 0 || status.st_size >= file.offset)
                return false;
            // It was truncated: what follows begins with a line.
            file.offset = 0;
            file.partial.clear();
            file.skipping = false;
            continue;
        }
        take(file, {buffer.data(), static_cast<std::size_t>(count)}, handle);
        file.offset += count;
        file.grown = now;
        done += static_cast<std::size_t>(count);
    }
    return true;
}

Result<bool> LogTail::read(const LineHandler& handle, Clock::time_point now) {
    const Result<void> opened = open_current(now);
    bool more = false;
    for (auto file = files_.begin(); file != files_.end();) {
        const auto read = read_file(*file, handle, now);
        if (!read)
            return read;
        more |= *read;
        const bool current = opened && std::next(file) == files_.end();
        file = !current && now - file->grown > rotated_time ? files_.erase(file) : std::next(file);
    }
    if (!opened && files_.empty())
        return std::unexpected(opened.error());
    return more;
}

}  // namespace pangolin
