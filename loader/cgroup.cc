#include "loader/cgroup.h"

#include <mntent.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

namespace pangolin {

Result<std::string> find_cgroup_root() {
    const char* const mounts = "/proc/self/mounts";
    const std::unique_ptr<FILE, int (*)(FILE*)> file(::setmntent(mounts, "re"), ::endmntent);
    if (!file)
        return system_failure(errno, std::string("cannot read ") + mounts);
    std::array<char, 4096> text{};
    mntent entry{};
    while (::getmntent_r(file.get(), &entry, text.data(), static_cast<int>(text.size())) != nullptr) {
        if (std::string_view(entry.mnt_type) == "cgroup2")
            return std::string(entry.mnt_dir);
    }
    return failure("no cgroup-v2 hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified");
}

bool is_whole_cgroup_hierarchy(const std::string& folder) {
    // The kernel's kernfs numbers inodes from its root on (kernfs_create_root() in fs/kernfs/dir.c).
    constexpr ino_t inode_of_root = 1;
    struct stat status{};
    return ::stat(folder.c_str(), &status) == 0 && status.st_ino == inode_of_root;
}

}  // namespace pangolin
