#include "tests/support/tcp_sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <fstream>
#include <string_view>
#include <thread>

namespace pangolin::test {

Address address(const char* text, std::uint16_t port) {
    Address result;
    if (std::string_view(text).find(':') == std::string_view::npos) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(result.storage);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        inet_pton(AF_INET, text, &v4.sin_addr);
        result.size = sizeof v4;
    } else {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(result.storage);
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        inet_pton(AF_INET6, text, &v6.sin6_addr);
        result.size = sizeof v6;
    }
    return result;
}

int connect_to(int socket, const Address& to) {
    return ::connect(socket, reinterpret_cast<const sockaddr*>(&to.storage), to.size);
}

int tcp_socket(const Address& of, int flags) {
    return ::socket(of.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

UniqueFd connected(const char* to, std::uint16_t port) {
    const Address server = address(to, port);
    UniqueFd socket(tcp_socket(server));
    if (connect_to(socket.get(), server) != 0)
        socket.reset();
    return socket;
}

UniqueFd listen_on_all(int fast_open, std::uint16_t port) {
    const Address any = address("::", port);
    UniqueFd socket(tcp_socket(any));
    const int yes = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fast_open != 0)
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_FASTOPEN, &fast_open, sizeof fast_open);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any.storage), any.size) != 0 ||
        ::listen(socket.get(), 1024) != 0)
        socket.reset();
    return socket;
}

UniqueFd accepted(const UniqueFd& listener) {
    return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

void set_sysctl(const std::string& name, const std::string& value) {
    std::ofstream("/proc/sys/net/ipv4/" + name) << value;
}

void pause_for(std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
}

ConnectionPair connect_pair(const UniqueFd& listener, const char* to, std::uint16_t port) {
    UniqueFd client = connected(to, port);
    if (!client)
        return {};
    return {.server = accepted(listener), .client = std::move(client)};
}

void reset(UniqueFd socket) {
    const linger none{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

}  // namespace pangolin::test
