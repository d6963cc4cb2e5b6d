#include "loader/netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>

namespace pangolin {
namespace {

// The kernel fills what it is offered up to 32 KiB a message.
constexpr std::size_t receive_buffer_size = 1 << 16;
// Answers are there at once; this bounds the wait for one that never comes.
constexpr timeval receive_timeout{.tv_sec = 5, .tv_usec = 0};

int error_code_of(const nlmsghdr& message) {
    // NLMSG_ERROR and NLMSG_DONE both begin with a negative error number.
    const auto payload_size = static_cast<std::size_t>(mnl_nlmsg_get_payload_len(&message));
    std::int32_t code = 0;
    if (payload_size >= sizeof code)
        std::memcpy(&code, mnl_nlmsg_get_payload(&message), sizeof code);
    return code < 0 ? -code : 0;
}

}  // namespace

std::string_view NetlinkAttribute::text() const {
    const auto* characters = reinterpret_cast<const char*>(payload.data());
    return {characters, payload.empty() ? 0 : strnlen(characters, payload.size())};
}

NetlinkAttributes::NetlinkAttributes(const nlmsghdr& message, std::size_t header_size) {
    const std::span bytes(reinterpret_cast<const std::byte*>(&message), message.nlmsg_len);
    const std::size_t offset = NLMSG_HDRLEN + NLMSG_ALIGN(header_size);
    bytes_ = bytes.subspan(offset < bytes.size() ? offset : bytes.size());
}

Result<NetlinkSocket> NetlinkSocket::open(int bus) {
    NetlinkSocket socket(mnl_socket_open2(bus, SOCK_CLOEXEC));
    if (!socket.socket_ || mnl_socket_bind(socket.socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0)
        return system_failure(errno, "cannot open a netlink socket");
    const int fd = mnl_socket_get_fd(socket.socket_.get());
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive_timeout, sizeof receive_timeout) != 0)
        return system_failure(errno, "cannot set a netlink socket's timeout");
    socket.buffer_.resize(receive_buffer_size);
    return socket;
}

std::uint64_t NetlinkSocket::netns_cookie() const {
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    const int fd = mnl_socket_get_fd(socket_.get());
    return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

Result<void> NetlinkSocket::exchange(nlmsghdr* request, const OnMessage& on_message) {
    request->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0)
        return system_failure(errno, "cannot send a netlink request");
    Result<void> outcome;
    while (true) {
        const auto more = receive(sequence_, on_message, outcome);
        if (!more)
            return std::unexpected(more.error());
        if (!*more)
            return outcome;
    }
}

// Reads once. True when more is to come; the first error of the answer goes to `outcome`.
Result<bool> NetlinkSocket::receive(std::uint32_t sequence, const OnMessage& on_message,
                                    Result<void>& outcome) {
    const ssize_t count = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
    if (count < 0)
        return system_failure(errno == EAGAIN ? ETIMEDOUT : errno, "cannot receive a netlink answer");
    int rest = static_cast<int>(count);
    bool more = true;
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data()); is_whole(message, rest);
         message = mnl_nlmsg_next(message, &rest)) {
        // Left over from an answer that was given up.
        if (message->nlmsg_seq != sequence)
            continue;
        if ((message->nlmsg_flags & NLM_F_DUMP_INTR) != 0 && outcome)
            outcome = system_failure(EINTR, "what was listed changed meanwhile");
        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
            if (const int code = error_code_of(*message); code != 0 && outcome)
                outcome = system_failure(code, "the kernel refused a netlink request");
            more = false;
        } else if (message->nlmsg_type >= NLMSG_MIN_TYPE && outcome) {
            outcome = on_message(*message);
        }
    }
    // WireGuard's answers hold the private key.
    explicit_bzero(buffer_.data(), static_cast<std::size_t>(count));
    return more;
}

}  // namespace pangolin
