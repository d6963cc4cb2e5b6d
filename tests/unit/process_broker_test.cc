// pangolin_process_broker itself: what it hands to whom, and what it makes of bad questions.
#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include <vector>

#include "loader/broker/protocol.h"
#include "loader/broker/server.h"
#include "loader/files.h"
#include "loader/process_broker.h"
#include "tests/support/broker_process.h"
#include "tests/support/namespace_child.h"
#include "tests/support/other_user.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using broker::Answer;
using broker::Question;
using broker::Request;
using test::BrokerProcess;
using test::NamespaceChild;
using testing::HasSubstr;

constexpr pid_t no_process = INT_MAX;

UniqueFd connect_to(const std::string& path) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return UniqueFd();
    const timeval limit{10, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return socket;
}

Request request_for(Question question, pid_t pid) {
    Request request;
    request.question = static_cast<std::uint16_t>(question);
    request.pid = pid;
    return request;
}

// The errno of the answer, or below zero: hung up (-1), no answer in time (-2).
int answer_to(const UniqueFd& socket, const void* bytes, std::size_t size) {
    if (!socket || ::send(socket.get(), bytes, size, MSG_NOSIGNAL) < 0)
        return -1;
    Answer answer;
    const ssize_t received = ::recv(socket.get(), &answer, sizeof answer, 0);
    if (received < 0 && errno == EAGAIN)
        return -2;
    return received == sizeof answer ? answer.error : -1;
}

int answer_to(const UniqueFd& socket, const Request& request) {
    return answer_to(socket, &request, sizeof request);
}

std::pair<dev_t, ino_t> identity(const std::string& path) {
    struct stat status{};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return {status.st_dev, status.st_ino};
}

std::pair<dev_t, ino_t> identity(const UniqueFd& fd) {
    struct stat status{};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    return {status.st_dev, status.st_ino};
}

std::ptrdiff_t open_descriptors(pid_t pid) {
    const std::filesystem::directory_iterator folder("/proc/" + std::to_string(pid) + "/fd");
    return std::distance(begin(folder), end(folder));
}

std::string link_of(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

// Of a process that was forked from this one: what is here is there.
bool reads_memory_of(pid_t pid) {
    static int there = 42;
    int here = 0;
    const iovec local{&here, sizeof here};
    const iovec remote{&there, sizeof there};
    return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof here && here == there;
}

TEST(ProcessBroker, HandsOverWhatProcessesAreIn) {
    PANGOLIN_REQUIRE_ROOT();
    const ScratchFolder root;
    const NamespaceChild child(NamespaceChild::Mounts::own, [&] {
        return ::chroot(root.path("").c_str()) == 0 && ::mkdir("/inside", 0755) == 0 &&
               ::chdir("/inside") == 0;
    });
    ASSERT_TRUE(child.running());
    const BrokerProcess process(::getuid());
    ProcessBroker broker(process.socket());
    const auto netns = broker.open_network_namespace(child.pid());
    ASSERT_TRUE(netns) << netns.error().message();
    EXPECT_EQ(identity(*netns), identity(link_of(child.pid(), "ns/net")));
    EXPECT_NE(identity(*netns), identity("/proc/self/ns/net"));
    const auto folder = broker.open_root_folder(child.pid());
    ASSERT_TRUE(folder) << folder.error().message();
    EXPECT_EQ(identity(*folder), identity(root.path("")));
    EXPECT_EQ(::fcntl(folder->get(), F_GETFL) & O_PATH, O_PATH);
    EXPECT_EQ(::fcntl(folder->get(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(broker.working_directory(child.pid()), root.path("inside"));
    const auto all = broker.process_folder();
    ASSERT_TRUE(all) << all.error().message();
    const std::string comm =
        "/proc/self/fd/" + std::to_string(*all) + "/" + std::to_string(child.pid()) + "/comm";
    EXPECT_EQ(read_small_file(comm), read_small_file(link_of(child.pid(), "comm")));
}

TEST(ProcessBroker, ListsAllProcessesInPages) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild child(NamespaceChild::Mounts::own);
    ASSERT_TRUE(child.running());
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    std::vector<pid_t> many;
    for (std::size_t i = 0; i < broker::most_entries + 100; ++i) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            char byte = 0;
            writer.reset();
            ::_exit(::read(reader.get(), &byte, 1) == 0 ? 0 : 1);
        }
        ASSERT_GT(pid, 0);
        many.push_back(pid);
    }
    const BrokerProcess process(::getuid());
    ProcessBroker broker(process.socket());
    for (const auto& [found, link] :
         {std::pair(broker.network_namespaces(), "ns/net"), std::pair(broker.mount_namespaces(), "ns/mnt")}) {
        ASSERT_TRUE(found) << found.error().message();
        EXPECT_TRUE(std::ranges::is_sorted(*found, {}, &ProcessNamespace::pid));
        std::map<pid_t, std::pair<dev_t, ino_t>> by_pid;
        for (const ProcessNamespace& each : *found) {
            EXPECT_TRUE(by_pid.emplace(each.pid, std::pair(each.device, each.inode)).second) << each.pid;
        }
        EXPECT_EQ(by_pid[child.pid()], identity(link_of(child.pid(), link)));
        EXPECT_TRUE(by_pid.contains(process.pid()));
        const auto own = identity(link_of(::getpid(), link));
        EXPECT_TRUE(std::ranges::all_of(many, [&](pid_t pid) { return by_pid[pid] == own; }));
    }
    writer.reset();
    for (const pid_t pid : many)
        ::waitpid(pid, nullptr, 0);
}

TEST(ProcessBroker, HoldsOneCapabilityAndAFilter) {
    PANGOLIN_REQUIRE_ROOT();
    const BrokerProcess process(::getuid());
    ProcessBroker broker(process.socket());
    ASSERT_TRUE(broker.network_namespaces());
    const std::string status = read_small_file(link_of(process.pid(), "status"));
    for (const char* line : {"\nUid:\t65533\t65533\t65533\t65533\n", "\nCapPrm:\t0000000000080000\n",
                             "\nCapEff:\t0000000000080000\n", "\nCapAmb:\t0000000000000000\n",
                             "\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n", "\nThreads:\t1\n"})
        EXPECT_THAT(status, HasSubstr(line));
}

// A client without CAP_SYS_PTRACE gets no further with what it was handed than the broker meant it to.
TEST(ProcessBroker, ItsFolderShowsNoMemoryAndNoEnvironment) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild secret;
    ASSERT_TRUE(secret.running());
    const BrokerProcess process(test::other_user);
    const std::vector<std::string> closed{"environ", "mem",  "auxv", "fd",  "ns/net",
                                          "ns/mnt",  "root", "cwd",  "exe", "map_files"};
    const auto results = [&](std::initializer_list<int> capabilities) {
        return test::in_child([&]() -> std::string {
                   if (!test::become_other_user(capabilities))
                       return "cannot become another user";
                   ProcessBroker broker(process.socket());
                   const auto folder = broker.process_folder();
                   if (!folder)
                       return folder.error().message();
                   const std::string below =
                       "/proc/self/fd/" + std::to_string(*folder) + "/" + std::to_string(secret.pid()) + "/";
                   std::string said = read_small_file(below + "comm").empty() ? "no comm " : "";
                   if (reads_memory_of(secret.pid()))
                       said += "memory ";
                   for (const std::string& name : closed)
                       if (const UniqueFd fd(::open((below + name).c_str(), O_RDONLY | O_CLOEXEC)); fd)
                           said += name + " ";
                   return said;
               })
            .said;
    };
    EXPECT_EQ(results({CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN}), "");
    EXPECT_EQ(results({CAP_BPF, CAP_SYS_PTRACE}), "memory ns/net ns/mnt root cwd exe ")
        << "this is what the capability shows: the test cannot tell without";
}

TEST(ProcessBroker, SurvivesBadQuestions) {
    PANGOLIN_REQUIRE_ROOT();
    const BrokerProcess process(::getuid());
    const auto good = request_for(Question::working_directory, ::getpid());
    Request foreign = good;
    foreign.magic ^= 1;
    std::array<char, 100'000> bytes{};
    std::memcpy(bytes.data(), &good, sizeof good);
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, sizeof good - 1, sizeof good + 1, bytes.size()})
        EXPECT_EQ(answer_to(connect_to(process.socket()), bytes.data(), size), -1) << size;
    EXPECT_EQ(answer_to(connect_to(process.socket()), foreign), -1);

    const UniqueFd socket = connect_to(process.socket());
    Request newer = good;
    newer.version = broker::protocol_version + 1;
    EXPECT_EQ(answer_to(socket, newer), EPROTO);
    for (const std::uint16_t unknown : {0, 7, 8, 0xffff}) {
        Request request = good;
        request.question = unknown;
        EXPECT_EQ(answer_to(socket, request), EPROTO) << unknown;
    }
    for (const Question question :
         {Question::network_namespace, Question::root_folder, Question::working_directory}) {
        for (const pid_t pid : {0, -1, INT_MIN})
            EXPECT_EQ(answer_to(socket, request_for(question, pid)), ESRCH) << pid;
        EXPECT_EQ(answer_to(socket, request_for(question, no_process)), ENOENT);
    }
    EXPECT_EQ(answer_to(socket, request_for(Question::network_namespaces, -1)), ESRCH);
    EXPECT_EQ(answer_to(socket, request_for(Question::network_namespaces, no_process)), 0);
    EXPECT_EQ(answer_to(socket, good), 0);
    EXPECT_TRUE(process.running());
}

TEST(ProcessBroker, HangsUpOnWhoDoesNotListen) {
    PANGOLIN_REQUIRE_ROOT();
    const BrokerProcess process(::getuid());
    const UniqueFd flood = connect_to(process.socket());
    ASSERT_TRUE(flood);
    const auto list = request_for(Question::network_namespaces, 0);
    int sent = 0;
    while (sent < 100'000 && ::send(flood.get(), &list, sizeof list, MSG_NOSIGNAL) >= 0)
        ++sent;
    EXPECT_LT(sent, 100'000);
    EXPECT_TRUE(errno == EPIPE || errno == ECONNRESET) << errno;
    for (int i = 0; i < 200; ++i) {
        const UniqueFd hasty = connect_to(process.socket());
        ASSERT_GE(::send(hasty.get(), &list, sizeof list, MSG_NOSIGNAL), 0);
    }
    ProcessBroker broker(process.socket());
    EXPECT_TRUE(broker.network_namespaces());
    EXPECT_TRUE(process.running());
}

TEST(ProcessBroker, LetsClientsWaitForRoom) {
    PANGOLIN_REQUIRE_ROOT();
    const BrokerProcess process(::getuid());
    const auto good = request_for(Question::working_directory, ::getpid());
    std::vector<UniqueFd> silent;
    for (int i = 0; i < 8; ++i) {
        silent.push_back(connect_to(process.socket()));
        ASSERT_EQ(answer_to(silent.back(), good), 0);
    }
    const UniqueFd late = connect_to(process.socket());
    ASSERT_GE(::send(late.get(), &good, sizeof good, 0), 0);
    pollfd answer{.fd = late.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&answer, 1, 200), 0);
    silent.pop_back();
    EXPECT_EQ(::poll(&answer, 1, 10'000), 1);
}

TEST(ProcessBroker, AnswersTheOwnerOfItsSocketOnly) {
    PANGOLIN_REQUIRE_ROOT();
    const BrokerProcess process(test::other_user);
    const auto ask = [&] { return ProcessBroker(process.socket()).network_namespaces(); };
    // Root's is the one user that the file's mode does not keep out.
    const auto refused = ask();
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("hung up"));
    const auto owner = test::in_child(
        [&] { return test::become_other_user({}) && ask() ? std::string("answered") : "refused"; });
    EXPECT_EQ(owner.said, "answered");
    EXPECT_TRUE(process.running());
}

TEST(ProcessBroker, KeepsNothingOpen) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild child;
    ASSERT_TRUE(child.running());
    const BrokerProcess process(::getuid());
    ProcessBroker broker(process.socket());
    const auto ask_all = [&] {
        EXPECT_TRUE(broker.process_folder());
        EXPECT_TRUE(broker.open_network_namespace(child.pid()));
        EXPECT_TRUE(broker.open_root_folder(child.pid()));
        EXPECT_TRUE(broker.working_directory(child.pid()));
        EXPECT_TRUE(broker.network_namespaces());
        EXPECT_FALSE(broker.open_root_folder(no_process));
    };
    ask_all();
    const auto before = std::pair(open_descriptors(process.pid()), open_descriptors(::getpid()));
    for (int i = 0; i < 500; ++i)
        ask_all();
    // What comes without being asked for goes as well.
    const UniqueFd pushy = connect_to(process.socket());
    for (int i = 0; i < 50; ++i) {
        Request request = request_for(Question::working_directory, ::getpid());
        iovec part{&request, sizeof request};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        *CMSG_FIRSTHDR(&message) = {
            .cmsg_len = CMSG_LEN(sizeof(int)),
            .cmsg_level = SOL_SOCKET,
            .cmsg_type = SCM_RIGHTS,
        };
        const int own = STDERR_FILENO;
        std::memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &own, sizeof own);
        ASSERT_GE(::sendmsg(pushy.get(), &message, MSG_NOSIGNAL), 0);
        char answer[broker::largest_payload];
        ASSERT_GT(::recv(pushy.get(), answer, sizeof answer, 0), 0);
    }
    // One more is the second connection, at both ends.
    EXPECT_EQ(open_descriptors(process.pid()), before.first + 1);
    EXPECT_EQ(open_descriptors(::getpid()), before.second + 1);
}

TEST(ProcessBroker, EndsWhenNobodyNeedsIt) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd quiet(ends[0]);
    const UniqueFd open(ends[1]);
    const broker::Processes processes{UniqueFd()};
    const broker::ServerOptions options{.listener = quiet.get(), .idle = std::chrono::milliseconds(50)};
    EXPECT_EQ(broker::serve(options, processes), 0);
}

TEST(ProcessBroker, SaysWhatItIsMissing) {
    const auto said = test::in_child([]() -> std::string {
        int ends[2];
        if (::pipe(ends) != 0)
            return "no pipe";
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::dup2(ends[1], STDERR_FILENO);
            ::unsetenv("LISTEN_FDS");
            ::execl(PANGOLIN_PROCESS_BROKER, PANGOLIN_PROCESS_BROKER, nullptr);
            ::_exit(1);
        }
        char text[1024];
        const ssize_t size = ::read(ends[0], text, sizeof text);
        return std::string(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    });
    EXPECT_EQ(said.said,
              "pangolin_process_broker: there is no socket to listen at (HINT: Start "
              "pangolin_process_broker.socket, which starts this.)\n");
}

}  // namespace
}  // namespace pangolin
