// An HTTP server that says what a test wants, right or wrong.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "loader/base/unique_fd.h"

namespace pangolin {

// One connection at a time on 127.0.0.1, one request on each.
class SmallHttpServer {
  public:
    // From the request's target to all bytes of the answer; none: the connection is left open and silent.
    using Answer = std::function<std::string(const std::string& target)>;

    explicit SmallHttpServer(Answer answer)
        : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(listener_.get(), 8) != 0 ||
            ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
            throw std::runtime_error("cannot listen");
        port_ = ntohs(address.sin_port);
        thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
    }
    SmallHttpServer(const SmallHttpServer&) = delete;
    SmallHttpServer& operator=(const SmallHttpServer&) = delete;
    ~SmallHttpServer() = default;

    std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
    unsigned requests() const { return requests_; }

    static std::string json(const std::string& body, const std::string& headers = "") {
        return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + headers +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    }

  private:
    static bool readable(int descriptor) {
        constexpr int patience = 20;
        pollfd wait{.fd = descriptor, .events = POLLIN, .revents = 0};
        return ::poll(&wait, 1, patience) == 1;
    }

    void serve(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            if (!readable(listener_.get()))
                continue;
            const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            std::string request;
            std::array<char, 4096> buffer{};
            bool open = true;
            while (open && !stop.stop_requested() && request.find("\r\n\r\n") == std::string::npos) {
                if (!readable(connection.get()))
                    continue;
                const ssize_t count = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
                open = count > 0;
                if (open)
                    request.append(buffer.data(), static_cast<std::size_t>(count));
            }
            ++requests_;
            const auto first = request.find(' ') + 1;
            std::string answer = answer_(request.substr(first, request.find(' ', first) - first));
            std::string_view rest = answer;
            while (!rest.empty()) {
                const ssize_t sent = ::send(connection.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
                if (sent <= 0)
                    break;
                rest.remove_prefix(static_cast<std::size_t>(sent));
            }
            // Until the client has had enough of the silence.
            while (answer.empty() && !stop.stop_requested() && !readable(connection.get())) {
            }
        }
    }

    Answer answer_;
    UniqueFd listener_;
    std::uint16_t port_ = 0;
    std::atomic<unsigned> requests_ = 0;
    std::jthread thread_;
};

}  // namespace pangolin
