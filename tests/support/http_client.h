// A client for tests of servers.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "loader/base/unique_fd.h"

namespace pangolin {

// A plain socket, so that tests can misbehave.
class TestClient {
  public:
    explicit TestClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    }

    TestClient& send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return *this;
    }
    TestClient& end_sending() {
        ::shutdown(fd_.get(), SHUT_WR);
        return *this;
    }

    // Until `end` was seen, the server closes, or nothing came for 5 s.
    std::string receive(std::string_view end = {}) {
        std::string text;
        char buffer[65536];
        pollfd ready{.fd = fd_.get(), .events = POLLIN, .revents = 0};
        while ((end.empty() || !text.contains(end)) && ::poll(&ready, 1, 5000) > 0) {
            const ssize_t bytes = ::recv(fd_.get(), buffer, sizeof buffer, 0);
            closed_ = bytes <= 0;
            if (closed_)
                break;
            text.append(buffer, static_cast<std::size_t>(bytes));
        }
        return text;
    }
    bool closed() const { return closed_; }

  private:
    UniqueFd fd_;
    bool closed_ = false;
};

}  // namespace pangolin
