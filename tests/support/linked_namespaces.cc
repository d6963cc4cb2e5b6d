#include "tests/support/linked_namespaces.h"

#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace pangolin::test {
namespace {

const char* const make_link =
    " && for s in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$s; done"
    " && ip link set lo up && ip addr add %s/24 dev %s && ip -6 addr add %s/64 dev %s nodad"
    " && ip link set %s up";

std::string addresses(const char* device, const char* v4, const char* v6) {
    char command[512];
    std::snprintf(command, sizeof command, make_link, v4, device, v6, device, device);
    return command;
}

}  // namespace

LinkedNamespaces::LinkedNamespaces() {
    if (!near_.entered() || !far_.running())
        return;
    if (!run("ip link add pgx0 type veth peer name pgx1 netns " + std::to_string(far_.pid()) +
             addresses("pgx0", "10.89.0.1", "fd89::1")) ||
        !run_far("true" + addresses("pgx1", "10.89.0.2", "fd89::2")))
        return;
    near_interface_.name = "pgx0";
    near_interface_.index = ::if_nametoindex("pgx0");
    near_interface_.netns.path = "/proc/self/task/" + std::to_string(::gettid()) + "/ns/net";
    near_interface_.netns.name = "test";
    struct stat status{};
    ready_ = ::stat(near_interface_.netns.path.c_str(), &status) == 0;
    near_interface_.netns.id = {.device = status.st_dev, .inode = status.st_ino};
}

bool LinkedNamespaces::run(const std::string& command) {
    return std::system(command.c_str()) == 0;
}

bool LinkedNamespaces::run_far(const std::string& command) const {
    return run("nsenter -t " + std::to_string(far_.pid()) + " -n sh -c '" + command + "'");
}

std::int64_t LinkedNamespaces::number_of(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
    if (!output)
        return -1;
    char text[4096] = {};
    const std::size_t size = std::fread(text, 1, sizeof text - 1, output.get());
    const char* const digits = text + std::strcspn(text, "0123456789");
    return digits < text + size ? std::atoll(digits) : -1;
}

UniqueFd LinkedNamespaces::far_socket(const std::function<UniqueFd()>& open) const {
    UniqueFd socket;
    const auto opened = run_in_network_namespace(far(), [&]() -> Result<void> {
        socket = open();
        return {};
    });
    return opened ? std::move(socket) : UniqueFd();
}

}  // namespace pangolin::test
