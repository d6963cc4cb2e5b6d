#include "loader/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "loader/base/unique_fd.h"

namespace pangolin {

std::string read_small_file(const std::string& path, std::size_t limit) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    std::string content;
    if (!fd)
        return content;
    while (content.size() < limit) {
        const std::size_t used = content.size();
        content.resize(std::min(limit, used + 4096));
        const ssize_t count = read(fd.get(), content.data() + used, content.size() - used);
        content.resize(used + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count <= 0)
            break;
    }
    return content;
}

FileSignature FileSignature::of(const struct stat& status) {
    const auto time_of = [](const timespec& time) {
        return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    };
    return {.device = status.st_dev,
            .inode = status.st_ino,
            .size = status.st_size,
            .modified = time_of(status.st_mtim),
            .changed = time_of(status.st_ctim)};
}

std::optional<FileSignature> FileSignature::of(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0)
        return std::nullopt;
    return of(status);
}

std::vector<std::string> names_in_folder(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        names.push_back(it->path().filename().string());
    std::ranges::sort(names);
    return names;
}

}  // namespace pangolin
