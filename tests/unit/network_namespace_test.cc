// Finding and entering network namespaces. Most cases make one, which needs CAP_SYS_ADMIN.
#include "loader/network_namespace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "loader/process_table.h"
#include "tests/support/namespace_child.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using test::NamespaceChild;

constexpr const char* no_privilege = "making a network namespace needs CAP_SYS_ADMIN";

const NetworkNamespace* find_by_id(const std::vector<NetworkNamespace>& namespaces,
                                   const NetworkNamespaceId& id) {
    const auto found = std::ranges::find(namespaces, id, &NetworkNamespace::id);
    return found == namespaces.end() ? nullptr : &*found;
}

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator folder("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(folder), end(folder)));
}

TEST(FindNetworkNamespaces, ListsTheHostsFirst) {
    const auto namespaces = find_network_namespaces("auto");
    ASSERT_TRUE(namespaces) << namespaces.error().message();
    ASSERT_FALSE(namespaces->empty());
    EXPECT_EQ(namespaces->front().name, "host");
    const auto host = find_network_namespaces("host");
    ASSERT_TRUE(host);
    ASSERT_EQ(host->size(), 1U);
    EXPECT_EQ(host->front().id, namespaces->front().id);
}

TEST(FindNetworkNamespaces, ListsEachOnce) {
    const NamespaceChild child;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    auto namespaces = find_network_namespaces("auto");
    ASSERT_TRUE(namespaces) << namespaces.error().message();
    const NetworkNamespace* found = find_by_id(*namespaces, child.netns().id);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->path, child.netns().path);
    EXPECT_THAT(found->name, HasSubstr("pid:" + std::to_string(child.pid()) + " ("));
    std::ranges::sort(*namespaces, {}, &NetworkNamespace::id);
    EXPECT_EQ(std::ranges::adjacent_find(*namespaces, {}, &NetworkNamespace::id), namespaces->end());
}

TEST(FindNetworkNamespaces, TakesAPathOrAProcess) {
    const NamespaceChild child;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    for (const std::string& selector : {child.netns().path, "pid:" + std::to_string(child.pid())}) {
        const auto found = find_network_namespaces(selector);
        ASSERT_TRUE(found) << found.error().message();
        ASSERT_EQ(found->size(), 1U);
        EXPECT_EQ(found->front().id, child.netns().id) << selector;
    }
}

TEST(FindNetworkNamespaces, TakesANameUnderRunNetns) {
    const std::string name = "pangolin_exporter-" + std::to_string(getpid());
    const std::string path = "/run/netns/" + name;
    const NamespaceChild child;
    std::error_code error;
    std::filesystem::create_directories("/run/netns", error);
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running() && std::ofstream(path)) << no_privilege;
    // A file that no namespace is mounted on is what a killed `ip netns` leaves behind.
    const auto left_over = find_network_namespaces(name);
    const bool mounted = mount(child.netns().path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0;
    const auto found = find_network_namespaces(name);
    const auto all = find_network_namespaces("auto");
    const auto unknown = find_network_namespaces("pangolin_exporter-never-made");
    umount2(path.c_str(), MNT_DETACH);
    std::filesystem::remove(path, error);

    ASSERT_TRUE(mounted);
    ASSERT_FALSE(left_over);
    EXPECT_THAT(left_over.error().message(),
                AllOf(HasSubstr("is not a network namespace"), HasSubstr("HINT")));
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->front().id, child.netns().id);
    // The process may end before the mount does.
    const NetworkNamespace* listed = find_by_id(*all, child.netns().id);
    ASSERT_NE(listed, nullptr);
    EXPECT_EQ(listed->name, name);
    EXPECT_EQ(listed->path, path);
    ASSERT_FALSE(unknown);
    const std::string& hint = unknown.error().hint;
    EXPECT_THAT(hint, HasSubstr(name));
    EXPECT_EQ(hint.find(name), hint.rfind(name)) << hint;
}

struct BadSelector {
    const char* selector;
    const char* error;
    int code;
};
class FindNetworkNamespacesRefuses : public testing::TestWithParam<BadSelector> {};

TEST_P(FindNetworkNamespacesRefuses, WithAHint) {
    const auto found = find_network_namespaces(GetParam().selector);
    ASSERT_FALSE(found);
    EXPECT_THAT(found.error().what, HasSubstr(GetParam().error));
    EXPECT_FALSE(found.error().hint.empty());
    EXPECT_EQ(found.error().code, GetParam().code);
}

INSTANTIATE_TEST_SUITE_P(
    Selectors, FindNetworkNamespacesRefuses,
    testing::Values(BadSelector{"", "there is no network namespace ''", EINVAL},
                    BadSelector{"pid:", "names no process", EINVAL},
                    BadSelector{"pid:-1", "names no process", EINVAL},
                    BadSelector{"pid:12x", "names no process", EINVAL},
                    BadSelector{"pid:1073741824", "No such file", ENOENT},
                    BadSelector{"pangolin_exporter-never-made", "there is no network namespace", ENOENT},
                    BadSelector{"/nowhere/at/all", "No such file", ENOENT},
                    BadSelector{"/proc/self/ns/mnt", "is not a network namespace", EINVAL},
                    BadSelector{"/dev/null", "is not a network namespace", EINVAL},
                    BadSelector{"../../etc/passwd", "there is no network namespace", EINVAL},
                    BadSelector{"container:pangolin_exporter-never-made", "there is no container", ENOENT}),
    [](const auto& instance) { return "Row" + std::to_string(instance.index); });

TEST(NetworkNamespaceFinder, KeepsNoDescriptorAndForgetsWhatIsGone) {
    NamespaceChild child;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    NetworkNamespaceFinder finder("auto");
    ASSERT_TRUE(finder.find());
    const std::size_t before = open_descriptors();
    ASSERT_NE(find_by_id(finder.find().value(), child.netns().id), nullptr);
    EXPECT_EQ(open_descriptors(), before);
    const std::string path = child.netns().path;
    child.end();
    const auto namespaces = finder.find();
    ASSERT_TRUE(namespaces);
    EXPECT_EQ(std::ranges::count(*namespaces, path, &NetworkNamespace::path), 0);
}

TEST(RunInNetworkNamespace, WorksInsideAndLeavesTheCallerWhereItIs) {
    const NamespaceChild child;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    const auto before = network_namespace_of(getpid());
    std::optional<NetworkNamespaceId> inside;
    const auto done = run_in_network_namespace(child.netns(), [&]() -> Result<void> {
        struct stat file{};
        if (stat("/proc/thread-self/ns/net", &file) == 0)
            inside = NetworkNamespaceId{file.st_dev, file.st_ino};
        return {};
    });
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(inside, child.netns().id);
    EXPECT_EQ(network_namespace_of(getpid()), before);
}

TEST(RunInNetworkNamespace, PassesErrorsAndExceptionsOn) {
    const auto here = find_network_namespaces("pid:" + std::to_string(getpid()));
    ASSERT_TRUE(here) << here.error().message();
    const auto refused =
        run_in_network_namespace(here->front(), [] { return Result<void>(failure("no", "", 7)); });
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, 7);
    const auto thrown = run_in_network_namespace(
        here->front(), []() -> Result<void> { throw std::runtime_error("out of luck"); });
    ASSERT_FALSE(thrown);
    EXPECT_THAT(thrown.error().what, HasSubstr("out of luck"));
}

TEST(RunInNetworkNamespace, EntersByAnotherProcessWhenTheOneOfThePathHasEnded) {
    pid_t second = 0;
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    NamespaceChild first(NamespaceChild::Mounts::shared, [&] {
        const pid_t pid = fork();
        if (pid == 0) {
            alarm(60);
            while (true)
                pause();
        }
        return pid > 0 && write(writer.get(), &pid, sizeof pid) == sizeof pid;
    });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(first.running()) << no_privilege;
    ASSERT_EQ(read(reader.get(), &second, sizeof second), ssize_t{sizeof second});
    const NetworkNamespace netns = first.netns();
    first.end();
    std::optional<NetworkNamespaceId> inside;
    const auto note = [&](const NetworkNamespace&) -> Result<void> {
        struct stat file{};
        if (stat("/proc/thread-self/ns/net", &file) == 0)
            inside = NetworkNamespaceId{file.st_dev, file.st_ino};
        return {};
    };
    const auto done = visit_network_namespaces({netns}, note);
    kill(second, SIGKILL);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(inside, netns.id);
}

TEST(RunInNetworkNamespace, SaysThatTheNamespaceIsGone) {
    NamespaceChild child;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    const NetworkNamespace netns = child.netns();
    // Keeps its number from being given to a namespace of another test.
    const UniqueFd holder(open(netns.path.c_str(), O_RDONLY | O_CLOEXEC));
    child.end();
    const auto nothing = [] { return Result<void>(); };
    EXPECT_EQ(run_in_network_namespace(netns, nothing).error().code, ENOENT);
    // The path leads to somebody else's namespace by now.
    const NetworkNamespace other{netns.id, "/proc/self/ns/net", netns.name};
    EXPECT_EQ(run_in_network_namespace(other, nothing).error().code, ENOENT);
}

TEST(VisitNetworkNamespaces, SkipsWhatIsGoneAndStopsAtAnError) {
    NamespaceChild gone;
    const NamespaceChild first;
    const NamespaceChild second;
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(gone.running() && first.running() && second.running()) << no_privilege;
    const std::vector namespaces{first.netns(), gone.netns(), second.netns()};
    gone.end();
    std::vector<NetworkNamespaceId> visited;
    const auto note = [&](const NetworkNamespace& netns) -> Result<void> {
        visited.push_back(netns.id);
        return {};
    };
    ASSERT_TRUE(visit_network_namespaces(namespaces, note));
    EXPECT_EQ(visited, (std::vector{first.netns().id, second.netns().id}));
    int calls = 0;
    EXPECT_FALSE(visit_network_namespaces(namespaces, [&](const auto&) -> Result<void> {
        ++calls;
        return failure("enough");
    }));
    EXPECT_EQ(calls, 1);
}

TEST(ProcessTable, KnowsThisProcess) {
    const std::vector<pid_t> processes = list_processes();
    EXPECT_TRUE(std::ranges::is_sorted(processes));
    EXPECT_TRUE(std::ranges::binary_search(processes, getpid()));
    EXPECT_EQ(process_name(getpid()), "network_namespa");
    EXPECT_TRUE(process_start_time(getpid()));
    EXPECT_FALSE(process_start_time(1 << 30));
    EXPECT_EQ(process_name(1 << 30), "");
}

}  // namespace
}  // namespace pangolin
