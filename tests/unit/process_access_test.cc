// The exporter's end: a process without CAP_SYS_PTRACE that looks through the broker, and a client whose
// broker is absent, replaced or not to be trusted.
#include "loader/process_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "loader/confinement.h"
#include "loader/network_namespace.h"
#include "loader/process_table.h"
#include "tests/support/broker_process.h"
#include "tests/support/namespace_child.h"
#include "tests/support/other_user.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using broker::Answer;
using broker::NamespaceEntry;
using broker::Request;
using test::BrokerProcess;
using test::NamespaceChild;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// As in the shipped unit.
constexpr auto service_capabilities = {CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN};

// In a process as the service's: its user, capabilities and /proc, and confined.
std::string as_service(const std::string& socket, const std::function<std::string()>& work) {
    return test::in_child([&]() -> std::string {
               if (::unshare(CLONE_NEWNS) != 0 ||
                   ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                   ::mount("proc", "/proc", "proc", 0, "hidepid=invisible") != 0)
                   return "cannot hide processes";
               use_process_broker_at(socket);
               if (!test::become_other_user(service_capabilities))
                   return "cannot become another user";
               const auto confined = confine();
               return confined ? work() : confined.error().message();
           })
        .said;
}

TEST(ProcessAccess, ServiceSeesAndEntersThroughTheBroker) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild child;
    ASSERT_TRUE(child.running());
    const BrokerProcess process(test::other_user);
    const auto said = as_service(process.socket(), [&]() -> std::string {
        const auto found = find_network_namespaces("auto");
        if (!found)
            return found.error().message();
        std::string text = process_name(child.pid()) + " " + found->front().path;
        for (const NetworkNamespace& netns : *found)
            if (netns.id == child.netns().id)
                text += " " + netns.name + " " + netns.path;
        ino_t inside = 0;
        const auto entered = run_in_network_namespace(child.netns(), [&]() -> Result<void> {
            struct stat status{};
            inside = ::stat("/proc/thread-self/ns/net", &status) == 0 ? status.st_ino : 0;
            return {};
        });
        return text + (entered ? inside == child.netns().id.inode ? " entered" : " elsewhere"
                               : entered.error().message());
    });
    const std::string pid = std::to_string(child.pid());
    // The first process may be none that even root looks into, in a container.
    const std::string host = network_namespace_of(1) ? "/proc/1/ns/net" : "/proc/self/ns/net";
    EXPECT_EQ(said, "process_access_ " + host + " pid:" + pid + " (process_access_) /proc/" + pid +
                        "/ns/net entered");
}

TEST(ProcessAccess, ServiceSeesNothingWithoutOne) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild child;
    ASSERT_TRUE(child.running());
    const auto said = as_service("/nonexistent/socket", [&]() -> std::string {
        NetworkNamespaceFinder finder("auto");
        const auto found = finder.find();
        const auto entered = run_in_network_namespace(child.netns(), [] { return Result<void>(); });
        const Result<void>& looked = finder.looked_into_processes();
        return (found ? "found some, " : found.error().message()) +
               (looked ? "all" : looked.error().message()) +
               (entered ? "; entered" : "; " + entered.error().what);
    });
    EXPECT_THAT(said, StartsWith("found some, missing CAP_SYS_PTRACE"));
    EXPECT_THAT(said, HasSubstr("no process broker at /nonexistent/socket (HINT: "));
    EXPECT_THAT(said, EndsWith(child.netns().name + " is gone"));
}

TEST(ProcessAccess, ABrokerThatEndsIsNotMissed) {
    PANGOLIN_REQUIRE_ROOT();
    const NamespaceChild child;
    ASSERT_TRUE(child.running());
    BrokerProcess process(::getuid());
    ProcessBroker broker(process.socket());
    ASSERT_TRUE(broker.open_network_namespace(child.pid()));
    process.kill();
    // As systemd does when a client comes.
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        process.start();
    });
    const auto found = broker.open_network_namespace(child.pid());
    later.join();
    EXPECT_TRUE(found) << found.error().message();
    const auto folder = broker.process_folder();
    ASSERT_TRUE(folder);
}

TEST(ProcessAccess, AFailingBrokerIsOneErrorAndNoGoneNamespace) {
    PANGOLIN_REQUIRE_ROOT();
    BrokerProcess process(::getuid());
    process.kill();
    ProcessBroker broker(process.socket(), std::chrono::milliseconds(100));
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) {
        const auto found = broker.open_network_namespace(1);
        ASSERT_FALSE(found);
        EXPECT_EQ(found.error().code, ETIMEDOUT);
        EXPECT_THAT(found.error().message(), HasSubstr("does not answer: Connection timed out (HINT: "));
    }
    // The others did not wait.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
    process.start();
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    EXPECT_TRUE(broker.open_network_namespace(::getpid()));
    ProcessBroker absent("/nonexistent/socket");
    EXPECT_FALSE(absent.present());
    EXPECT_EQ(absent.network_namespaces().error().code, ECONNREFUSED);
    EXPECT_THAT(absent.network_namespaces().error().message(), HasSubstr("cannot be asked"));
}

// Answers each question with what `make` makes of it.
class FalseBroker {
  public:
    using Make = std::function<void(const Request&, std::vector<char>& packet, int& descriptors)>;

    explicit FalseBroker(Make make) : make_(std::move(make)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socket().copy(address.sun_path, sizeof address.sun_path - 1);
        listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        EXPECT_TRUE(listener_ &&
                    ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                        0 &&
                    ::listen(listener_.get(), 1) == 0);
        thread_ = std::thread([this] { live(); });
    }
    ~FalseBroker() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    std::string socket() const { return folder_.path("socket"); }

  private:
    void live() {
        while (true) {
            const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!client)
                return;
            Request request;
            while (::recv(client.get(), &request, sizeof request, 0) == sizeof request)
                answer(client, request);
        }
    }
    void answer(const UniqueFd& client, const Request& request) {
        std::vector<char> packet;
        int descriptors = 0;
        make_(request, packet, descriptors);
        iovec part{packet.data(), packet.size()};
        alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))]{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (descriptors > 0) {
            message.msg_control = control;
            message.msg_controllen = CMSG_SPACE(static_cast<std::size_t>(descriptors) * sizeof(int));
            cmsghdr* const header = CMSG_FIRSTHDR(&message);
            header->cmsg_len = CMSG_LEN(static_cast<std::size_t>(descriptors) * sizeof(int));
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            const int files[2] = {listener_.get(), listener_.get()};
            std::memcpy(CMSG_DATA(header), files, static_cast<std::size_t>(descriptors) * sizeof(int));
        }
        ::sendmsg(client.get(), &message, MSG_NOSIGNAL);
    }

    ScratchFolder folder_;
    Make make_;
    UniqueFd listener_;
    std::thread thread_;
};

std::vector<char> bytes_of(const Answer& answer, const std::vector<NamespaceEntry>& entries = {}) {
    std::vector<char> packet(sizeof answer + entries.size() * sizeof(NamespaceEntry));
    std::memcpy(packet.data(), &answer, sizeof answer);
    if (!entries.empty())
        std::memcpy(packet.data() + sizeof answer, entries.data(), entries.size() * sizeof(NamespaceEntry));
    return packet;
}

Answer answer_to(const Request& request) {
    return {.question = request.question, .pid = request.pid};
}

std::ptrdiff_t open_descriptors() {
    const std::filesystem::directory_iterator folder("/proc/self/fd");
    return std::distance(begin(folder), end(folder));
}

TEST(ProcessAccess, TakesNoAnswerThatDoesNotFit) {
    struct Case {
        const char* what;
        FalseBroker::Make make;
    };
    const std::vector<Case> cases{
        {"nothing with it", [](const Request& to, auto& packet, int&) { packet = bytes_of(answer_to(to)); }},
        {"two descriptors",
         [](const Request& to, auto& packet, int& descriptors) {
             packet = bytes_of(answer_to(to));
             descriptors = 2;
         }},
        {"an error and a descriptor",
         [](const Request& to, auto& packet, int& descriptors) {
             Answer answer = answer_to(to);
             answer.error = EACCES;
             packet = bytes_of(answer);
             descriptors = 1;
         }},
        {"short",
         [](const Request& to, auto& packet, int& descriptors) {
             packet = bytes_of(answer_to(to));
             packet.pop_back();
             descriptors = 1;
         }},
        {"long",
         [](const Request& to, auto& packet, int& descriptors) {
             packet = bytes_of(answer_to(to));
             packet.resize(packet.size() + broker::largest_payload + 1);
             descriptors = 1;
         }},
        {"more entries than are there",
         [](const Request& to, auto& packet, int& descriptors) {
             Answer answer = answer_to(to);
             answer.entries = 0xffffffff;
             packet = bytes_of(answer);
             descriptors = 1;
         }},
        {"of another process",
         [](const Request& to, auto& packet, int& descriptors) {
             Answer answer = answer_to(to);
             ++answer.pid;
             packet = bytes_of(answer);
             descriptors = 1;
         }},
        {"of another version",
         [](const Request& to, auto& packet, int& descriptors) {
             Answer answer = answer_to(to);
             ++answer.version;
             packet = bytes_of(answer);
             descriptors = 1;
         }},
    };
    for (const Case& each : cases) {
        const FalseBroker false_broker(each.make);
        const auto before = open_descriptors();
        {
            ProcessBroker broker(false_broker.socket());
            const auto answer = broker.open_root_folder(1);
            ASSERT_FALSE(answer) << each.what;
            EXPECT_EQ(answer.error().code, EPROTO) << each.what;
        }
        for (int i = 0; i < 100 && open_descriptors() != before; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_EQ(open_descriptors(), before) << each.what;
    }
}

TEST(ProcessAccess, AListComesToAnEnd) {
    const auto list = [](std::vector<NamespaceEntry> entries) {
        const FalseBroker false_broker([&](const Request& to, auto& packet, int&) {
            Answer answer = answer_to(to);
            answer.entries = static_cast<std::uint32_t>(entries.size());
            answer.more = 1;
            packet = bytes_of(answer, entries);
        });
        return ProcessBroker(false_broker.socket()).network_namespaces();
    };
    EXPECT_TRUE(list({}));
    EXPECT_EQ(list({{.pid = 7}, {.pid = 7}}).error().code, EPROTO);
    EXPECT_EQ(list({{.pid = 7}, {.pid = 6}}).error().code, EPROTO);
    EXPECT_EQ(list({{.pid = -1}}).error().code, EPROTO);
    EXPECT_EQ(list({{.pid = INT_MAX}}).error().code, EPROTO);
    // The same page for ever.
    EXPECT_EQ(list({{.pid = 7}}).error().code, EPROTO);
}

TEST(ProcessAccess, KnowsLinksOfProcesses) {
    EXPECT_EQ(link_of_process(42, "ns/net"), "/proc/42/ns/net");
    const auto link = parse_process_link("/proc/42/root/run/x");
    ASSERT_TRUE(link);
    EXPECT_EQ(link->pid, 42);
    EXPECT_EQ(link->name, "root/run/x");
    for (const char* other : {"", "/proc/", "/proc/42", "/proc/self/ns/net", "/proc/0/ns/net",
                              "/proc/-1/root/x", "/proc/4x/root/x", "/run/netns/x", "proc/42/root/x"})
        EXPECT_FALSE(parse_process_link(other)) << other;
}

}  // namespace
}  // namespace pangolin
