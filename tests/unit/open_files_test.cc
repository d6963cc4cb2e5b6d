// Open files by /proc and by the kernel's own list, compared with one another.
#include "loader/open_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <tuple>

#include "loader/base/unique_fd.h"
#include "tests/support/other_user.h"
#include "tests/support/privileges.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

// Sorted, as text.
std::string describe(std::vector<OpenFile> files) {
    const auto key = [](const OpenFile& file) { return std::tuple(file.device, file.inode, file.mode); };
    std::ranges::sort(files, {}, key);
    std::ostringstream text;
    for (const OpenFile& file : files)
        text << file.device << ' ' << file.inode << ' ' << std::oct << file.mode << std::dec << '\n';
    return text.str();
}

bool contains(const std::vector<OpenFile>& files, int descriptor) {
    struct stat status{};
    ::fstat(descriptor, &status);
    return std::ranges::any_of(files, [&](const OpenFile& file) {
        return file.device == status.st_dev && file.inode == status.st_ino && file.mode == status.st_mode;
    });
}

TEST(OpenFiles, AreThoseOfTheProcess) {
    const ScratchFolder folder;
    const UniqueFd file(::open(folder.write("file", "").c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const std::vector<OpenFile> files = open_files(::getpid());
    EXPECT_TRUE(contains(files, file.get()));
    EXPECT_TRUE(contains(files, socket.get()));
    struct stat status{};
    ::fstat(socket.get(), &status);
    EXPECT_TRUE(open_sockets(::getpid()).contains(status.st_ino));
    ::fstat(file.get(), &status);
    EXPECT_FALSE(open_sockets(::getpid()).contains(status.st_ino));
    EXPECT_TRUE(open_files(1 << 30).empty());
}

// This process is root's and waits while another user lists its files.
TEST(OpenFiles, AreSeenOfOtherUsersProcesses) {
    PANGOLIN_REQUIRE_ROOT();
    const ScratchFolder folder;
    const std::string path = folder.write("file", "");
    const UniqueFd first(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd second(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const pid_t observed = ::getpid();
    const auto as_other = [&](std::initializer_list<int> capabilities) {
        return test::in_child([&]() -> std::string {
            if (!test::become_other_user(capabilities))
                return "cannot become another user";
            return ::access(("/proc/" + std::to_string(observed) + "/fd").c_str(), R_OK) == 0
                       ? "another user's /proc/PID/fd is open"
                       : describe(open_files(observed));
        });
    };
    // in_child() holds the reading end of its pipe meanwhile.
    const UniqueFd spare(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::string seen = as_other({CAP_BPF, CAP_PERFMON}).said;
    for (const OpenFile& file : open_files(observed)) {
        // The folder is the listing's own descriptor.
        EXPECT_TRUE(S_ISDIR(file.mode) || seen.contains(describe({file}))) << describe({file}) << "in\n"
                                                                           << seen;
    }
    // Two descriptors of one file are two.
    struct stat status{};
    ::fstat(first.get(), &status);
    const std::string line =
        describe({{.device = status.st_dev, .inode = status.st_ino, .mode = status.st_mode}});
    EXPECT_TRUE(seen.contains(line + line)) << seen;
    EXPECT_EQ(as_other({}).said, "");
}

}  // namespace
}  // namespace pangolin
