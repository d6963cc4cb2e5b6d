// A process in a network namespace of its own, for tests.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <utility>

#include "loader/base/unique_fd.h"
#include "loader/network_namespace.h"

namespace pangolin::test {

// Lives until the end of the object. `set_up` runs in the child, inside the new namespaces, before the
// constructor returns; false from it makes the child end.
class NamespaceChild {
  public:
    enum class Mounts : std::uint8_t { shared, own };

    explicit NamespaceChild(Mounts mounts = Mounts::shared, const std::function<bool()>& set_up = nullptr) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0)
            return;
        const UniqueFd ready(ends[0]);
        UniqueFd report(ends[1]);
        pid_ = fork();
        if (pid_ == 0)
            live(mounts, set_up, report);
        report.reset();
        char byte = 0;
        running_ = pid_ > 0 && read(ready.get(), &byte, 1) == 1;
        netns_.path = "/proc/" + std::to_string(pid_) + "/ns/net";
        netns_.name = "pid:" + std::to_string(pid_);
        if (const auto id = network_namespace_of(pid_))
            netns_.id = *id;
    }
    NamespaceChild(const NamespaceChild&) = delete;
    NamespaceChild& operator=(const NamespaceChild&) = delete;
    ~NamespaceChild() { end(); }

    // False when the privileges are missing or `set_up` failed.
    bool running() const { return running_; }
    pid_t pid() const { return pid_; }
    const NetworkNamespace& netns() const { return netns_; }
    void end() {
        if (pid_ <= 0)
            return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

  private:
    [[noreturn]] static void live(Mounts mounts, const std::function<bool()>& set_up,
                                  const UniqueFd& report) {
        const int flags = mounts == Mounts::own ? CLONE_NEWNET | CLONE_NEWNS : CLONE_NEWNET;
        if (unshare(flags) != 0)
            _exit(1);
        // What is mounted here stays here.
        if (mounts == Mounts::own && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
            _exit(1);
        if (set_up && !set_up())
            _exit(1);
        // Tests are bounded in time even when their own process is killed.
        alarm(60);
        if (write(report.get(), "r", 1) != 1)
            _exit(1);
        while (true)
            pause();
    }

    pid_t pid_ = 0;
    bool running_ = false;
    NetworkNamespace netns_;
};

}  // namespace pangolin::test
