// pangolin_process_broker as its units start it, at a socket of the test's own.
#pragma once

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "loader/base/unique_fd.h"
#include "tests/support/scratch_folder.h"

namespace pangolin::test {

// Neither root nor the user that it answers.
constexpr unsigned broker_user = 65533;

// The socket stays, as systemd keeps it, whatever becomes of the broker.
class BrokerProcess {
  public:
    explicit BrokerProcess(uid_t client) : path_(folder_.path("socket")) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        listens_ =
            listener_ &&
            ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
            ::chmod(folder_.path("").c_str(), 0755) == 0 && ::chmod(path_.c_str(), 0600) == 0 &&
            ::chown(path_.c_str(), client, 0) == 0 && ::listen(listener_.get(), 16) == 0;
        start();
    }
    BrokerProcess(const BrokerProcess&) = delete;
    BrokerProcess& operator=(const BrokerProcess&) = delete;
    ~BrokerProcess() { kill(); }

    void start() {
        pid_ = listens_ ? ::fork() : -1;
        if (pid_ == 0)
            become();
    }
    void kill() {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }
    // It has not ended.
    bool running() const { return pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0; }
    pid_t pid() const { return pid_; }
    const std::string& socket() const { return path_; }

  private:
    static bool keep_one_capability() {
        constexpr unsigned wanted = 1U << CAP_SYS_PTRACE;
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{{wanted, wanted, wanted}, {}};
        return ::prctl(PR_SET_KEEPCAPS, 1) == 0 && ::setresgid(broker_user, broker_user, broker_user) == 0 &&
               ::setresuid(broker_user, broker_user, broker_user) == 0 &&
               ::syscall(SYS_capset, &header, sets) == 0 &&
               ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_PTRACE, 0, 0) == 0;
    }
    [[noreturn]] void become() const {
        // Its folder may be closed to that user.
        const int program = ::open(PANGOLIN_PROCESS_BROKER, O_PATH);
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
        ::setenv("LISTEN_FDS", "1", 1);
        const int listener = ::fcntl(listener_.get(), F_DUPFD, 100);
        const int copy = ::fcntl(program, F_DUPFD_CLOEXEC, 100);
        char* const arguments[] = {const_cast<char*>("pangolin_process_broker"), nullptr};
        if (::dup2(listener, 3) == 3 && ::dup3(copy, 4, O_CLOEXEC) == 4 && ::close_range(5, ~0U, 0) == 0 &&
            keep_one_capability() && ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
            ::fexecve(4, arguments, environ);
        ::_exit(1);
    }

    ScratchFolder folder_;
    std::string path_;
    UniqueFd listener_;
    bool listens_ = false;
    pid_t pid_ = 0;
};

}  // namespace pangolin::test
