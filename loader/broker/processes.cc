#include "loader/broker/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>

namespace pangolin::broker {
namespace {

// "PID/LINK", without memory of its own from the heap, which the broker may not ask for.
class LinkPath {
  public:
    LinkPath(pid_t pid, std::string_view link) {
        char* const end = path_.data() + path_.size();
        char* at = std::to_chars(path_.data(), end, pid).ptr;
        *at++ = '/';
        std::memcpy(at, link.data(), link.size());
    }
    const char* get() const { return path_.data(); }

  private:
    std::array<char, 32> path_{};
};

// A process that ends while the kernel follows one of its links is "not permitted"; the next time it is not
// there.
template <class Call>
auto with_second_try(const Call& call) {
    auto result = call();
    if (result < 0 && errno == EACCES)
        result = call();
    return result;
}

int open_link(int folder, pid_t pid, const char* link, int flags) {
    const LinkPath path(pid, link);
    return with_second_try([&] { return ::openat(folder, path.get(), flags | O_CLOEXEC); });
}

std::optional<pid_t> parse_pid(std::string_view name) {
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    return error == std::errc{} && end == name.data() + name.size() ? std::optional(pid) : std::nullopt;
}

NamespaceEntry look_at(int folder, pid_t pid, const char* link) {
    const LinkPath path(pid, link);
    struct stat status{};
    if (with_second_try([&] { return ::fstatat(folder, path.get(), &status, 0); }) != 0)
        return {.pid = pid, .error = errno};
    return {.pid = pid, .error = 0, .device = status.st_dev, .inode = status.st_ino};
}

// Calls `use` with each process's number until that answers false; false with errno when /proc is not read.
template <class Use>
bool for_each_process(int folder, const Use& use) {
    const UniqueFd reader(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!reader)
        return false;
    alignas(dirent64) std::array<char, 16384> page{};
    while (true) {
        const long size = ::syscall(SYS_getdents64, reader.get(), page.data(), page.size());
        if (size <= 0)
            return size == 0;
        for (long at = 0; at < size;) {
            const auto* const entry = reinterpret_cast<const dirent64*>(page.data() + at);
            at += entry->d_reclen;
            if (const auto pid = parse_pid(entry->d_name); pid && !use(*pid))
                return true;
        }
    }
}

}  // namespace

int Processes::open_network_namespace(pid_t pid) const {
    return open_link(folder_.get(), pid, "ns/net", O_RDONLY | O_NONBLOCK);
}

int Processes::open_root_folder(pid_t pid) const {
    return open_link(folder_.get(), pid, "root", O_PATH | O_DIRECTORY);
}

ssize_t Processes::working_directory(pid_t pid, std::span<char> path) const {
    const LinkPath link(pid, "cwd");
    return with_second_try([&] { return ::readlinkat(folder_.get(), link.get(), path.data(), path.size()); });
}

ssize_t Processes::list_namespaces(const char* link, pid_t first, std::span<NamespaceEntry> entries,
                                   bool& more) const {
    std::size_t used = 0;
    more = false;
    const bool done = for_each_process(folder_.get(), [&](pid_t pid) {
        if (pid < first)
            return true;
        const NamespaceEntry entry = look_at(folder_.get(), pid, link);
        if (entry.error == ENOENT || entry.error == ESRCH)
            return true;
        more = used == entries.size();
        if (!more)
            entries[used++] = entry;
        return !more;
    });
    return done ? static_cast<ssize_t>(used) : -1;
}

}  // namespace pangolin::broker
