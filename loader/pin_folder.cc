#include "loader/pin_folder.h"

#include <bpf/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "loader/bpf_error.h"

namespace pangolin {

bool PinFolder::exists() const {
    std::error_code ignored;
    return std::filesystem::is_directory(path_, ignored);
}

Result<void> PinFolder::create() const {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error)
        return system_failure(error.value(), "cannot make the folder " + path_);
    return {};
}

std::vector<std::string> PinFolder::entries() const {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator at(path_, error), end; !error && at != end; at.increment(error))
        names.push_back(at->path().filename());
    std::ranges::sort(names);
    return names;
}

std::string PinFolder::path_of(std::string_view name) const {
    std::string file(name);
    std::ranges::replace(file, '.', '_');
    return path_ + "/" + file;
}

Result<void> PinFolder::pin(int fd, std::string_view name) const {
    const std::string path = path_of(name);
    if (bpf_obj_pin(fd, path.c_str()) == 0)
        return {};
    // Never is the name without its object: this process may end at any moment.
    const std::string beside = path + "_new";
    if (errno == EEXIST && (::unlink(beside.c_str()) == 0 || errno == ENOENT) &&
        bpf_obj_pin(fd, beside.c_str()) == 0 && ::rename(beside.c_str(), path.c_str()) == 0)
        return {};
    return bpf_failure(errno, "cannot pin " + path);
}

UniqueFd PinFolder::open(std::string_view name) const {
    return UniqueFd(bpf_obj_get(path_of(name).c_str()));
}

void PinFolder::remove(std::string_view name) const {
    std::error_code ignored;
    std::filesystem::remove_all(path_of(name), ignored);
}

void PinFolder::remove() const {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    // Of a folder that is not empty, this is an error.
    std::filesystem::remove(std::filesystem::path(path_).parent_path(), ignored);
}

}  // namespace pangolin
