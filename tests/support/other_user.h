// Running a piece of a test as another user, with some of root's capabilities.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>

#include "loader/base/unique_fd.h"

namespace pangolin::test {

// nobody's, who owns nothing.
constexpr unsigned other_user = 65534;

// The calling process becomes that user with no more than these capabilities, as systemd's User= and
// AmbientCapabilities= make it. False when that is not permitted.
inline bool become_other_user(std::initializer_list<int> capabilities) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
    for (const int capability : capabilities) {
        sets[capability / 32].permitted |= 1U << capability % 32;
        sets[capability / 32].effective |= 1U << capability % 32;
    }
    return ::prctl(PR_SET_KEEPCAPS, 1) == 0 && ::setgroups(0, nullptr) == 0 &&
           ::setresgid(other_user, other_user, other_user) == 0 &&
           ::setresuid(other_user, other_user, other_user) == 0 && ::syscall(SYS_capset, &header, sets) == 0;
}

// What became of a process of its own.
struct ChildEnd {
    // As waitpid() gives it.
    int status = -1;
    // What it had to say.
    std::string said;
};

// Runs `work` in a forked process, whose answer is returned.
inline ChildEnd in_child(const std::function<std::string()>& work) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return {};
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::alarm(60);
        const std::string said = work();
        ::_exit(::write(writer.get(), said.data(), said.size()) == static_cast<ssize_t>(said.size()) ? 0 : 1);
    }
    writer.reset();
    ChildEnd end;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::read(reader.get(), buffer, sizeof buffer)) > 0;)
        end.said.append(buffer, static_cast<std::size_t>(size));
    if (pid > 0)
        ::waitpid(pid, &end.status, 0);
    return end;
}

}  // namespace pangolin::test
