#include "tests/support/tun_device.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace pangolin::test {
namespace {

// struct virtio_net_hdr of the virtio specification (section 5.1.6); <linux/virtio_net.h> is not C++.
struct OffloadHeader {
    std::uint8_t flags = 0;
    std::uint8_t gso_type = 0;
    std::uint16_t header_length = 0;
    std::uint16_t gso_size = 0;
    std::uint16_t checksum_start = 0;
    std::uint16_t checksum_offset = 0;
};
static_assert(sizeof(OffloadHeader) == 10);

constexpr std::uint8_t needs_checksum = 1;
enum : std::uint8_t { gso_tcp_v4 = 1, gso_tcp_v6 = 4, gso_udp = 5 };

const char* const this_namespace = "/proc/thread-self/ns/net";

ifreq request_for(const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

sockaddr ipv4(const char* text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, text, &address.sin_addr);
    sockaddr result{};
    std::memcpy(&result, &address, sizeof result);
    return result;
}

// Otherwise the kernel sends packets of its own accord as soon as the device is up.
void quieten_ipv6(const std::string& name) {
    const std::string folder = "/proc/sys/net/ipv6/conf/" + name + "/";
    std::ofstream(folder + "addr_gen_mode") << 1;
    std::ofstream(folder + "router_solicitations") << 0;
}

Result<void> bring_up(const std::string& name, unsigned index) {
    const UniqueFd v4(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const UniqueFd v6(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request = request_for(name);
    request.ifr_addr = ipv4("100.89.128.1");
    if (::ioctl(v4.get(), SIOCSIFADDR, &request) != 0)
        return system_failure(errno, "SIOCSIFADDR");
    request.ifr_netmask = ipv4("255.255.240.0");
    if (::ioctl(v4.get(), SIOCSIFNETMASK, &request) != 0)
        return system_failure(errno, "SIOCSIFNETMASK");
    request.ifr_flags = IFF_UP | IFF_RUNNING | IFF_POINTOPOINT | IFF_NOARP;
    if (::ioctl(v4.get(), SIOCSIFFLAGS, &request) != 0)
        return system_failure(errno, "SIOCSIFFLAGS");
    in6_ifreq address{};
    inet_pton(AF_INET6, "fd00::1", &address.ifr6_addr);
    address.ifr6_prefixlen = 64;
    address.ifr6_ifindex = static_cast<int>(index);
    if (::ioctl(v6.get(), SIOCSIFADDR, &address) != 0)
        return system_failure(errno, "SIOCSIFADDR for IPv6");
    return {};
}

OffloadHeader header_of(std::span<const std::uint8_t> packet, const TunPacketForm& form) {
    OffloadHeader header;
    // The linear part; the kernel makes it 14 bytes at least.
    header.header_length = form.scattered ? 1 : 0;
    if (form.gso_size == 0)
        return header;
    const bool v4 = packet[0] >> 4 == 4;
    const bool tcp = packet[v4 ? 9 : 6] == IPPROTO_TCP;
    header.flags = needs_checksum;
    header.gso_type = !tcp ? gso_udp : (v4 ? gso_tcp_v4 : gso_tcp_v6);
    header.gso_size = form.gso_size;
    header.checksum_start = v4 ? 20 : 40;
    header.checksum_offset = tcp ? 16 : 6;
    return header;
}

}  // namespace

NewNetworkNamespace::NewNetworkNamespace() : before_(::open(this_namespace, O_RDONLY | O_CLOEXEC)) {
    entered_ = before_ && ::unshare(CLONE_NEWNET) == 0;
}

NewNetworkNamespace::~NewNetworkNamespace() {
    if (entered_)
        ::setns(before_.get(), CLONE_NEWNET);
}

Result<TunDevice> TunDevice::create(const std::string& name) {
    TunDevice device;
    device.fd_.reset(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!device.fd_)
        return system_failure(errno, "/dev/net/tun");
    ifreq request = request_for(name);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (::ioctl(device.fd_.get(), TUNSETIFF, &request) != 0)
        return system_failure(errno, "TUNSETIFF " + name);
    WireGuardInterface& interface = device.interface_;
    interface.name = name;
    interface.index = ::if_nametoindex(name.c_str());
    // Readable for the thread that run_in_network_namespace() starts, unlike "thread-self".
    interface.netns.path = "/proc/self/task/" + std::to_string(::gettid()) + "/ns/net";
    interface.netns.name = "test";
    struct stat status{};
    if (::stat(interface.netns.path.c_str(), &status) != 0)
        return system_failure(errno, interface.netns.path);
    interface.netns.id = {.device = status.st_dev, .inode = status.st_ino};
    quieten_ipv6(name);
    if (auto up = bring_up(name, interface.index); !up)
        return std::unexpected(up.error());
    return device;
}

Result<void> TunDevice::write(std::span<const std::uint8_t> packet, const TunPacketForm& form) {
    OffloadHeader header = header_of(packet, form);
    const iovec parts[] = {{&header, sizeof header},
                           {const_cast<std::uint8_t*>(packet.data()), packet.size()}};
    if (::writev(fd_.get(), parts, 2) < 0)
        return system_failure(errno, "writing to " + interface_.name);
    return {};
}

std::optional<std::vector<std::uint8_t>> TunDevice::read(int wait_ms) {
    pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    std::vector<std::uint8_t> packet(65600);
    if (::poll(&wait, 1, wait_ms) != 1)
        return {};
    const ssize_t size = ::read(fd_.get(), packet.data(), packet.size());
    if (size < static_cast<ssize_t>(sizeof(OffloadHeader)))
        return {};
    packet.resize(static_cast<std::size_t>(size));
    packet.erase(packet.begin(), packet.begin() + sizeof(OffloadHeader));
    return packet;
}

}  // namespace pangolin::test
