// What a confined process can and cannot do. Every refusal is compared with what the same call answers
// before.
#include "loader/confinement.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "loader/files.h"
#include "tests/support/namespace_child.h"
#include "tests/support/other_user.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using test::in_child;
using testing::HasSubstr;

// As in the shipped unit, and with what it asks another process for.
constexpr auto service_capabilities = {CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE};

struct Call {
    const char* what;
    // Below zero, with errno, when it failed.
    std::function<long()> call;
};

long load_module(int system_call) {
    return ::syscall(system_call, system_call == SYS_init_module ? 0L : -1L, 0L, "");
}

long fork_and_reap() {
    const pid_t pid = ::fork();
    if (pid == 0)
        ::_exit(0);
    return pid < 0 ? -1 : ::waitpid(pid, nullptr, 0);
}

const std::vector<Call>& forbidden_calls() {
    static const std::vector<Call> calls{
        {"execve a shell",
         [] {
             // Without the filter the name is looked up; the shell itself would end the list.
             char* const arguments[] = {nullptr};
             return ::execve("/nonexistent/sh", arguments, arguments);
         }},
        {"fork", fork_and_reap},
        {"init_module", [] { return load_module(SYS_init_module); }},
        {"finit_module", [] { return load_module(SYS_finit_module); }},
        {"delete_module", [] { return ::syscall(SYS_delete_module, nullptr, 0); }},
        {"mount", [] { return ::mount("none", "/nonexistent", "tmpfs", 0, nullptr); }},
        {"umount", [] { return ::umount2("/nonexistent", 0); }},
        {"ptrace", [] { return ::ptrace(PTRACE_ATTACH, 1 << 30, nullptr, nullptr); }},
        {"process_vm_readv", [] { return ::syscall(SYS_process_vm_readv, ::getpid(), 0, 0, 0, 0, 0); }},
        {"a packet socket", [] { return ::socket(AF_PACKET, SOCK_DGRAM, 0); }},
        {"a vsock socket", [] { return ::socket(AF_VSOCK, SOCK_STREAM, 0); }},
        {"a new mount namespace", [] { return ::unshare(CLONE_NEWNS); }},
        {"init's mount namespace",
         [] {
             const UniqueFd self(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
             return ::setns(self.get(), CLONE_NEWNS);
         }},
        {"any namespace",
         [] {
             const UniqueFd self(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
             return ::setns(self.get(), 0);
         }},
        {"keyctl", [] { return ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1); }},
        {"chroot", [] { return ::chroot("/nonexistent"); }},
        {"setuid", [] { return ::syscall(SYS_setuid, ::getuid()); }},
        {"kill", [] { return ::kill(::getpid(), SIGCONT); }},
        {"memory to write and run",
         [] {
             return ::mmap(nullptr, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                            MAP_FAILED
                        ? -1L
                        : 0L;
         }},
        {"to run what was written",
         [] {
             void* const page =
                 ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
             return ::mprotect(page, 4096, PROT_READ | PROT_EXEC);
         }},
    };
    return calls;
}

// One line for each call: its name and its errno, 0 where it succeeded.
std::string results(const std::vector<Call>& calls) {
    std::ostringstream said;
    for (const Call& each : calls) {
        errno = 0;
        said << each.what << '=' << (each.call() < 0 ? errno : 0) << '\n';
    }
    return said.str();
}

std::map<std::string, int> parse(const std::string& said) {
    std::map<std::string, int> found;
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);)
        found[line.substr(0, line.rfind('='))] = std::stoi(line.substr(line.rfind('=') + 1));
    return found;
}

std::string confined(const std::function<std::string()>& work) {
    const auto done = confine();
    return done ? work() : done.error().message();
}

std::string status_line(const std::string& key) {
    const std::string status = read_small_file("/proc/self/status");
    const std::size_t at = status.find("\n" + key + ":\t") + 1;
    return status.substr(at, status.find('\n', at) - at);
}

TEST(Confinement, RefusesWhatTheExporterNeverDoes) {
    PANGOLIN_REQUIRE_ROOT();
    const auto before = parse(in_child([] { return results(forbidden_calls()); }).said);
    const auto child = in_child([] { return confined([] { return results(forbidden_calls()); }); });
    const auto after = parse(child.said);
    ASSERT_EQ(after.size(), forbidden_calls().size()) << child.said;
    for (const auto& [what, code] : after) {
        EXPECT_EQ(code, EPERM) << what;
        EXPECT_NE(before.at(what), EPERM) << what << ": this call cannot tell a filter";
    }
}

TEST(Confinement, StartsNoShell) {
    PANGOLIN_REQUIRE_ROOT();
    const auto shell = [] {
        ::execl("/bin/sh", "sh", "-c", "exit 42", nullptr);
        return std::string(std::strerror(errno));
    };
    EXPECT_EQ(WEXITSTATUS(in_child(shell).status), 42);
    const auto child = in_child([&] { return confined(shell); });
    EXPECT_EQ(WEXITSTATUS(child.status), 0);
    EXPECT_EQ(child.said, "Operation not permitted");
}

TEST(Confinement, LeavesWhatTheExporterDoes) {
    PANGOLIN_REQUIRE_ROOT();
    const test::NamespaceChild elsewhere;
    ASSERT_TRUE(elsewhere.running());
    const std::vector<Call> needed{
        {"a thread",
         [] {
             long done = -1;
             std::thread([&] { done = 0; }).join();
             return done;
         }},
        {"a UNIX socket", [] { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
        {"an IPv4 socket", [] { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
        {"an IPv6 socket", [] { return ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
        {"a netlink socket", [] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0); }},
        {"a BPF map", [] { return bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", 4, 4, 1, nullptr); }},
        {"another process's namespace",
         [&] {
             const auto entered = run_in_network_namespace(elsewhere.netns(), []() -> Result<void> {
                 const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                 return socket ? Result<void>() : system_failure(errno, "socket");
             });
             errno = entered ? 0 : entered.error().code;
             return entered ? 0L : -1L;
         }},
        {"the name of that namespace", [&] { return network_namespace_of(elsewhere.pid()) ? 0L : -1L; }},
        {"a process that is there", [] { return ::kill(::getpid(), 0); }},
    };
    const auto child = in_child([&]() -> std::string {
        if (!test::become_other_user(service_capabilities))
            return "cannot become another user";
        return confined([&] { return results(needed); });
    });
    const auto found = parse(child.said);
    ASSERT_EQ(found.size(), needed.size()) << child.said;
    for (const auto& [what, code] : found)
        EXPECT_EQ(code, 0) << what << ": " << std::strerror(code);
}

TEST(Confinement, AnotherUserReadsNoShadow) {
    PANGOLIN_REQUIRE_ROOT();
    const test::NamespaceChild other;
    ASSERT_TRUE(other.running());
    const std::string way_round = "/proc/" + std::to_string(other.pid()) + "/root/etc/shadow";
    const std::vector<Call> ways{
        {"directly", [] { return ::open("/etc/shadow", O_RDONLY | O_CLOEXEC); }},
        {"through another process", [&] { return ::open(way_round.c_str(), O_RDONLY | O_CLOEXEC); }},
    };
    for (const auto& [what, code] : parse(in_child([&] { return results(ways); }).said))
        EXPECT_EQ(code, 0) << what << ": root reads it";
    const auto child = in_child([&]() -> std::string {
        if (!test::become_other_user(service_capabilities))
            return "cannot become another user";
        return confined([&] { return results(ways); });
    });
    const auto found = parse(child.said);
    ASSERT_EQ(found.size(), ways.size()) << child.said;
    for (const auto& [what, code] : found)
        EXPECT_EQ(code, EACCES) << what;
}

TEST(Confinement, KeepsTheCapabilitiesOfItsList) {
    PANGOLIN_REQUIRE_ROOT();
    const auto sets = [](const ConfinementOptions& options) {
        return in_child([&] {
                   const auto done = confine(options);
                   if (!done)
                       return done.error().message();
                   std::string said;
                   for (const char* key :
                        {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"})
                       said += status_line(key) + "\n";
                   return said;
               })
            .said;
    };
    // DAC_READ_SEARCH 2, NET_BIND_SERVICE 10, NET_ADMIN 12, SYS_PTRACE 19, SYS_ADMIN 21, SYSLOG 34, PERFMON
    // 38, BPF 39 (linux/capability.h).
    EXPECT_EQ(sets({}),
              "CapInh:\t0000000000000000\nCapPrm:\t000000c400281004\nCapEff:\t000000c400281004\n"
              "CapBnd:\t000000c400281004\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    EXPECT_THAT(sets({.privileged_port = true}), HasSubstr("CapEff:\t000000c400281404\n"));
}

TEST(Confinement, IsForThreadsAsWell) {
    const auto child = in_child([] {
        return confined([] {
            int code = 0;
            std::thread([&] { code = ::unshare(CLONE_NEWNS) < 0 ? errno : 0; }).join();
            return std::to_string(code);
        });
    });
    EXPECT_EQ(child.said, std::to_string(EPERM));
}

TEST(Confinement, AnAbortStillEndsTheProcess) {
    const auto child = in_child([] { return confined([]() -> std::string { std::abort(); }); });
    ASSERT_TRUE(WIFSIGNALED(child.status)) << child.status << ' ' << child.said;
    EXPECT_EQ(WTERMSIG(child.status), SIGABRT);
}

}  // namespace
}  // namespace pangolin
