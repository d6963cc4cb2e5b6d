// Pangolin is found by its listening sockets: real processes that listen, in namespaces of their own.
#include "loader/pangolin_process.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "loader/files.h"
#include "loader/listening_sockets.h"
#include "loader/process_table.h"
#include "tests/support/namespace_child.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using test::NamespaceChild;

// Of this process alone: another one of these tests, which runs at the same time, is found by its ports too.
const std::uint16_t first_port = static_cast<std::uint16_t>(20000 + getpid() % 8000 * 5);
const PangolinPorts ports{.external = first_port,
                          .internal = static_cast<std::uint16_t>(first_port + 1),
                          .next = static_cast<std::uint16_t>(first_port + 2),
                          .integration = static_cast<std::uint16_t>(first_port + 3)};

// The socket stays open until the process ends.
bool listen_on(std::uint16_t port, int family = AF_INET) {
    const int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    const auto* address =
        family == AF_INET ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
    const socklen_t size = family == AF_INET ? sizeof v4 : sizeof v6;
    return bind(descriptor, address, size) == 0 && listen(descriptor, 8) == 0;
}

bool listen_as_pangolin() {
    // Node listens on "::", which takes IPv4 as well.
    return listen_on(ports.external, AF_INET6) && listen_on(ports.internal);
}

TEST(ListeningSockets, ReadsTheTablesOfTheKernel) {
    const std::string heading =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    struct Case {
        const char* what;
        std::string table;
        ListeningSockets expected;
    };
    const Case cases[] = {
        {"nothing", "", {}},
        {"the heading", heading, {}},
        {"a listening and a connected socket",
         heading + "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        "
                   "0 4711 1 "
                   "00 100 0 0 10 0\n"
                   "   1: 0100007F:0BB9 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        "
                   "0 4712 1 "
                   "00 20 4 30 10 -1\n",
         {{3000, {4711}}}},
        {"IPv6, and two sockets of one port",
         "   0: 00000000000000000000000000000000:0BB9 00000000000000000000000000000000:0000 0A "
         "00000000:00000000 00:00000000 00000000     0        0 1 1 00\n"
         "   1: 00000000:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 00",
         {{3001, {1, 2}}}},
        {"lines cut off", "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00\n   0: 0100007F:\n\n", {}},
        {"no port", "   0: 0100007F 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n", {}},
    };
    for (const Case& each : cases) {
        SCOPED_TRACE(each.what);
        ListeningSockets found;
        add_listening_sockets(each.table, found);
        EXPECT_EQ(found, each.expected);
    }
}

TEST(PangolinProcessFinder, FindsWhoListensOnBothPorts) {
    PANGOLIN_REQUIRE_ROOT();
    PangolinProcessFinder finder(ports, std::chrono::milliseconds(0));
    EXPECT_FALSE(finder.find());
    const NamespaceChild pangolin(NamespaceChild::Mounts::shared, listen_as_pangolin);
    ASSERT_TRUE(pangolin.running());
    const auto found = finder.find();
    ASSERT_TRUE(found);
    EXPECT_EQ(found->pid, pangolin.pid());
    EXPECT_EQ(found->start_time, process_start_time(pangolin.pid()));
    EXPECT_EQ(found->netns.id, pangolin.netns().id);
    EXPECT_EQ(found->netns.path, pangolin.netns().path);
    EXPECT_EQ(found->netns.name, "pid:" + std::to_string(pangolin.pid()));
    EXPECT_EQ("0::" + found->cgroup + "\n",
              read_small_file("/proc/self/cgroup").substr(read_small_file("/proc/self/cgroup").find("0::")));
}

TEST(PangolinProcessFinder, IsNotDeceivedByOthers) {
    PANGOLIN_REQUIRE_ROOT();
    PangolinProcessFinder finder(ports, std::chrono::milliseconds(0));
    const NamespaceChild half(NamespaceChild::Mounts::shared, [] { return listen_on(ports.external); });
    const NamespaceChild connected(NamespaceChild::Mounts::shared,
                                   [] { return listen_on(ports.next) && listen_on(ports.internal); });
    ASSERT_TRUE(half.running());
    ASSERT_TRUE(connected.running());
    EXPECT_FALSE(finder.find());
}

// A podman pod: gerbil and Traefik are in the same namespace, each with ports of its own.
TEST(PangolinProcessFinder, TellsProcessesOfOneNamespaceApart) {
    PANGOLIN_REQUIRE_ROOT();
    pid_t pangolin = 0;
    int ends[2] = {-1, -1};
    ASSERT_EQ(pipe(ends), 0);
    const NamespaceChild pod(NamespaceChild::Mounts::shared, [&] {
        if (!listen_on(static_cast<std::uint16_t>(first_port + 4)))
            return false;
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);
            const pid_t self = getpid();
            if (!listen_as_pangolin() || write(ends[1], &self, sizeof self) != sizeof self)
                _exit(1);
            while (true)
                pause();
        }
        return child > 0;
    });
    ASSERT_TRUE(pod.running());
    ASSERT_EQ(read(ends[0], &pangolin, sizeof pangolin), ssize_t{sizeof pangolin});
    const auto found = PangolinProcessFinder(ports).find();
    kill(pangolin, SIGKILL);
    close(ends[0]);
    close(ends[1]);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->pid, pangolin);
    EXPECT_EQ(found->netns.id, pod.netns().id);
}

TEST(PangolinProcessFinder, FollowsRestartsAndStaysWithTheOneItFound) {
    PANGOLIN_REQUIRE_ROOT();
    PangolinProcessFinder finder(ports, std::chrono::milliseconds(0));
    auto first = std::make_unique<NamespaceChild>(NamespaceChild::Mounts::shared, listen_as_pangolin);
    ASSERT_TRUE(first->running());
    EXPECT_EQ(finder.find()->pid, first->pid());
    const NamespaceChild second(NamespaceChild::Mounts::shared, listen_as_pangolin);
    ASSERT_TRUE(second.running());
    EXPECT_EQ(finder.find()->pid, first->pid());
    first->end();
    const auto restarted = finder.find();
    ASSERT_TRUE(restarted);
    EXPECT_EQ(restarted->pid, second.pid());
}

}  // namespace
}  // namespace pangolin
