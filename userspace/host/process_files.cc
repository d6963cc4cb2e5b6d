#include "userspace/host/process_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "loader/process_access.h"

namespace pangolin {
namespace {

struct CloseFolder {
    void operator()(DIR* folder) const { closedir(folder); }
};

}  // namespace

ProcessFiles::ProcessFiles(pid_t pid)
    : root_(open_root_folder_of(pid).value_or(UniqueFd())), working_directory_(working_directory_of(pid)) {}

UniqueFd ProcessFiles::open(const std::string& path, int flags) const {
    const std::string absolute = path.starts_with('/') ? path : working_directory_ + "/" + path;
    open_how how{};
    how.flags = static_cast<__u64>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(
        static_cast<int>(::syscall(SYS_openat2, root_.get(), absolute.c_str(), &how, sizeof how)));
}

std::string ProcessFiles::read(const std::string& path, std::size_t limit) const {
    const UniqueFd file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    std::string content;
    std::array<char, 4096> block{};
    while (file && content.size() < limit) {
        const ssize_t count = ::read(file.get(), block.data(), block.size());
        if (count <= 0)
            break;
        content.append(block.data(), static_cast<std::size_t>(count));
    }
    return content;
}

bool ProcessFiles::exists(const std::string& path) const {
    return static_cast<bool>(open(path, O_PATH));
}

std::vector<std::string> ProcessFiles::list(const std::string& path, bool& found) const {
    std::vector<std::string> names;
    const UniqueFd descriptor = open(path, O_RDONLY | O_DIRECTORY);
    // The stream closes a descriptor of its own.
    const int own = descriptor ? ::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 0) : -1;
    const std::unique_ptr<DIR, CloseFolder> folder(own >= 0 ? ::fdopendir(own) : nullptr);
    found = folder != nullptr;
    while (const dirent* const entry = folder ? ::readdir(folder.get()) : nullptr)
        if (const std::string name = entry->d_name; name != "." && name != "..")
            names.push_back(name);
    return names;
}

}  // namespace pangolin
