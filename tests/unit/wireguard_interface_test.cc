// Finding WireGuard interfaces. Userspace ones are played by processes that hold a TUN link and listen on a
// UAPI socket; the kernel's are tested where the kernel has WireGuard (tests/kernel).
#include "loader/wireguard_interface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "loader/uapi_socket.h"
#include "tests/support/namespace_child.h"
#include "tests/support/privileges.h"

namespace pangolin {
namespace {

using test::NamespaceChild;
using Mounts = NamespaceChild::Mounts;

constexpr const char* no_privilege = "TUN links in network namespaces need root and /dev/net/tun";

// At most 15 characters, and nobody else's.
std::string unique_name(char suffix) {
    return "pgt" + std::to_string(getpid()) + suffix;
}

std::string socket_path(const std::string& name) {
    return "/run/wireguard/" + name + ".sock";
}

// The descriptor is left open on purpose: the link lives as long as the process.
bool make_tun(const std::string& name) {
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0;
}

bool listen_at(const std::string& path, bool by_another = false) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return false;
    if (!by_another)
        return listen(fd, 100) == 0;
    // As the first process of a daemon, which ends.
    const pid_t another = fork();
    if (another == 0)
        _exit(listen(fd, 100) == 0 ? 0 : 1);
    int status = 1;
    return waitpid(another, &status, 0) == another && status == 0;
}

bool mount_own_run() {
    return mount("none", "/run", "tmpfs", 0, nullptr) == 0;
}

class FindWireGuardInterfaces : public testing::Test {
  protected:
    void TearDown() override { std::filesystem::remove(socket_path(name_)); }

    const std::string name_ = unique_name('a');
};

#define ASSERT_FOUND(interfaces, count)                                   \
    do {                                                                  \
        ASSERT_TRUE(interfaces) << (interfaces).error().message();        \
        ASSERT_EQ((interfaces)->size(), static_cast<std::size_t>(count)); \
    } while (false)

TEST_F(FindWireGuardInterfaces, FindsATunWithASocketOfItsOwner) {
    const NamespaceChild child(Mounts::shared,
                               [&] { return make_tun(name_) && listen_at(socket_path(name_)); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    const auto found = find_wireguard_interfaces({child.netns()}, {});
    ASSERT_FOUND(found, 1);
    const WireGuardInterface& interface = found->front();
    EXPECT_EQ(interface.name, name_);
    EXPECT_EQ(interface.netns.id, child.netns().id);
    EXPECT_EQ(interface.implementation, WireGuardImplementation::userspace);
    EXPECT_EQ(interface.uapi_socket, socket_path(name_));
    EXPECT_NE(interface.index, 0U);
    EXPECT_TRUE(interface.same_as(find_wireguard_interfaces({child.netns()}, {name_})->at(0)));
    EXPECT_TRUE(find_wireguard_interfaces({child.netns()}, {"wg-other"})->empty());
}

TEST_F(FindWireGuardInterfaces, LooksIntoTheMountNamespaceOfAContainer) {
    const NamespaceChild child(
        Mounts::own, [&] { return mount_own_run() && make_tun(name_) && listen_at(socket_path(name_)); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    const auto found = find_wireguard_interfaces({child.netns()}, {});
    ASSERT_FOUND(found, 1);
    EXPECT_EQ(found->front().uapi_socket,
              "/proc/" + std::to_string(child.pid()) + "/root" + socket_path(name_));
}

TEST_F(FindWireGuardInterfaces, TellsDaemonsInContainersApart) {
    const auto live = [&] {
        return mount_own_run() && make_tun(name_) && listen_at(socket_path(name_), true);
    };
    const NamespaceChild one(Mounts::own, live);
    const NamespaceChild two(Mounts::own, live);
    // The host's is nobody else's.
    const NamespaceChild host(Mounts::shared, [&] { return listen_at(socket_path(name_), true); });
    const NamespaceChild without(Mounts::own, [&] { return make_tun(name_); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(one.running() && two.running() && host.running() && without.running()) << no_privilege;
    const auto found = find_wireguard_interfaces({one.netns(), two.netns(), without.netns()}, {});
    ASSERT_FOUND(found, 2);
    for (const auto& [interface, child] : {std::pair(found->front(), &one), std::pair(found->back(), &two)}) {
        EXPECT_EQ(interface.netns.id, child->netns().id);
        EXPECT_EQ(interface.uapi_socket,
                  "/proc/" + std::to_string(child->pid()) + "/root" + socket_path(name_));
    }
}

TEST_F(FindWireGuardInterfaces, NeverFollowsAContainersLinkToTheHost) {
    // On the host the same path is a socket that answers; in the container it is a link to that path.
    const std::string host_path = "/tmp/" + name_ + ".sock";
    const NamespaceChild child(Mounts::own, [&] {
        return mount_own_run() && make_tun(name_) && listen_at(host_path) &&
               mount("none", "/tmp", "tmpfs", 0, nullptr) == 0 && mkdir("/run/wireguard", 0700) == 0 &&
               symlink(host_path.c_str(), socket_path(name_).c_str()) == 0;
    });
    const bool host_answers = connect_uapi_socket(host_path).has_value();
    const auto found = find_wireguard_interfaces({child.netns()}, {});
    std::filesystem::remove(host_path);
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    EXPECT_TRUE(host_answers);
    ASSERT_FOUND(found, 0);
}

TEST_F(FindWireGuardInterfaces, SkipsAStaleSocketAndATunOfAnotherKind) {
    const NamespaceChild child(Mounts::shared, [&] { return make_tun(name_) && make_tun(unique_name('b')); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    {
        const NamespaceChild dead(Mounts::shared, [&] { return listen_at(socket_path(name_)); });
        ASSERT_TRUE(dead.running());
    }
    ASSERT_TRUE(std::filesystem::exists(socket_path(name_)));
    const auto found = find_wireguard_interfaces({child.netns()}, {});
    ASSERT_FOUND(found, 0);
}

TEST_F(FindWireGuardInterfaces, AcceptsAMovedTunOnlyWhenItsNameIsUnique) {
    // The owner of the socket has no such link: it was moved to `holder`.
    const NamespaceChild owner(Mounts::shared, [&] { return listen_at(socket_path(name_)); });
    const NamespaceChild holder(Mounts::shared, [&] { return make_tun(name_); });
    const NamespaceChild rival(Mounts::shared, [&] { return make_tun(name_); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(owner.running() && holder.running() && rival.running()) << no_privilege;
    const auto unique = find_wireguard_interfaces({owner.netns(), holder.netns()}, {});
    ASSERT_FOUND(unique, 1);
    EXPECT_EQ(unique->front().netns.id, holder.netns().id);
    const auto ambiguous = find_wireguard_interfaces({owner.netns(), holder.netns(), rival.netns()}, {});
    ASSERT_FOUND(ambiguous, 0);
}

TEST_F(FindWireGuardInterfaces, LeavesASocketToTheLinkOfItsOwnNamespace) {
    const NamespaceChild owner(Mounts::shared,
                               [&] { return make_tun(name_) && listen_at(socket_path(name_)); });
    const NamespaceChild rival(Mounts::shared, [&] { return make_tun(name_); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(owner.running() && rival.running()) << no_privilege;
    const auto both = find_wireguard_interfaces({rival.netns(), owner.netns()}, {});
    ASSERT_FOUND(both, 1);
    EXPECT_EQ(both->front().netns.id, owner.netns().id);
    // Also when the operator looks at the other namespace only.
    const auto other = find_wireguard_interfaces({rival.netns()}, {});
    ASSERT_FOUND(other, 0);
}

TEST_F(FindWireGuardInterfaces, RemembersSocketsAndNoticesTheirEnd) {
    NamespaceChild child(Mounts::shared, [&] { return make_tun(name_) && listen_at(socket_path(name_)); });
    PANGOLIN_REQUIRE_ROOT();
    ASSERT_TRUE(child.running()) << no_privilege;
    WireGuardInterfaceFinder finder;
    ASSERT_FOUND(finder.find({child.netns()}), 1);
    ASSERT_FOUND(finder.find({child.netns()}), 1);
    std::filesystem::remove(socket_path(name_));
    ASSERT_FOUND(finder.find({child.netns()}), 0);
    const std::vector namespaces{child.netns()};
    child.end();
    ASSERT_FOUND(finder.find(namespaces), 0);
}

TEST_F(FindWireGuardInterfaces, TellsANamespaceFromALaterOneWithItsInode) {
    WireGuardInterface before;
    before.netns.id = {1, 2};
    before.netns_cookie = 3;
    WireGuardInterface after = before;
    after.netns_cookie = 4;
    EXPECT_TRUE(before.same_as(before));
    EXPECT_FALSE(before.same_as(after));
}

}  // namespace
}  // namespace pangolin
