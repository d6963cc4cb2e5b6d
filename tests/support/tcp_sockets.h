// TCP sockets for tests that make connections in namespaces of their own.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "loader/base/unique_fd.h"

namespace pangolin::test {

// Ports: somebody listens, nobody does.
constexpr std::uint16_t listening = 4000;
constexpr std::uint16_t closed = 4001;

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

// Of an IPv4 or IPv6 address in text.
Address address(const char* text, std::uint16_t port);
// connect() as it is, with errno.
int connect_to(int socket, const Address& to);
// Of the family of `of`.
int tcp_socket(const Address& of, int flags = 0);
// Empty, with errno, when the connection fails.
UniqueFd connected(const char* to, std::uint16_t port = listening);
// For IPv4 as well; with a queue for TCP Fast Open if `fast_open` is not 0.
UniqueFd listen_on_all(int fast_open = 0, std::uint16_t port = listening);
UniqueFd accepted(const UniqueFd& listener);
// Both ends of a connection. The client closes first.
struct ConnectionPair {
    UniqueFd server, client;
    explicit operator bool() const { return client && server; }
};
// Makes and accepts it.
ConnectionPair connect_pair(const UniqueFd& listener, const char* to, std::uint16_t port = listening);
// close() sends a reset.
void reset(UniqueFd socket);

// net.ipv4.NAME of the calling thread's namespace.
void set_sysctl(const std::string& name, const std::string& value);
void pause_for(std::chrono::milliseconds time);

}  // namespace pangolin::test
