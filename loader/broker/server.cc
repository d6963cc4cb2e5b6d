#include "loader/broker/server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>

namespace pangolin::broker {
namespace {

// The exporter, and its commands beside it. More wait until one of these goes.
constexpr std::size_t most_clients = 8;

struct Reply {
    Answer answer;
    // Lives in `buffer`, or is empty.
    std::span<const char> payload;
    UniqueFd opened;
    // Not owned.
    int descriptor = -1;
};

// Of the one answer that is made at a time.
union Buffer {
    std::array<NamespaceEntry, most_entries> entries{};
    std::array<char, largest_text> text;
};
Buffer buffer;

void give_opened(Reply& reply, int opened) {
    reply.answer.error = opened < 0 ? errno : 0;
    reply.opened = UniqueFd(opened);
    reply.descriptor = opened;
}

void give_path(Reply& reply, const Processes& processes) {
    const ssize_t length = processes.working_directory(reply.answer.pid, buffer.text);
    reply.answer.error = length < 0 ? errno : 0;
    if (length > 0)
        reply.payload = std::span(buffer.text).first(static_cast<std::size_t>(length));
}

void give_list(Reply& reply, const Processes& processes, const char* link) {
    bool more = false;
    const ssize_t count = processes.list_namespaces(link, reply.answer.pid, buffer.entries, more);
    reply.answer.error = count < 0 ? errno : 0;
    if (count <= 0)
        return;
    reply.answer.entries = static_cast<std::uint32_t>(count);
    reply.answer.more = more ? 1 : 0;
    reply.payload = {reinterpret_cast<const char*>(buffer.entries.data()),
                     static_cast<std::size_t>(count) * sizeof(NamespaceEntry)};
}

Reply reply_to(const Request& request, const Processes& processes) {
    Reply reply;
    reply.answer.question = request.question;
    reply.answer.pid = request.pid;
    const auto question = static_cast<Question>(request.question);
    const bool is_of_one = question == Question::network_namespace || question == Question::root_folder ||
                           question == Question::working_directory;
    if (request.version != protocol_version) {
        reply.answer.error = EPROTO;
        return reply;
    }
    if (request.pid < 0 || (is_of_one && request.pid == 0)) {
        reply.answer.error = ESRCH;
        return reply;
    }
    switch (question) {
        case Question::process_folder:
            reply.descriptor = processes.folder();
            break;
        case Question::network_namespace:
            give_opened(reply, processes.open_network_namespace(request.pid));
            break;
        case Question::root_folder:
            give_opened(reply, processes.open_root_folder(request.pid));
            break;
        case Question::working_directory:
            give_path(reply, processes);
            break;
        case Question::network_namespaces:
            give_list(reply, processes, "ns/net");
            break;
        case Question::mount_namespaces:
            give_list(reply, processes, "ns/mnt");
            break;
        default:
            reply.answer.error = EPROTO;
    }
    return reply;
}

// Never waits for the client: who does not read has more than one question open, which nobody needs.
bool send(int client, const Reply& reply) {
    std::array<iovec, 2> parts{iovec{const_cast<Answer*>(&reply.answer), sizeof reply.answer},
                               iovec{const_cast<char*>(reply.payload.data()), reply.payload.size()}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = reply.payload.empty() ? 1 : 2;
    if (reply.descriptor >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &reply.descriptor, sizeof(int));
    }
    return ::sendmsg(client, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

// False: this client is done.
bool answer_one(int client, const Processes& processes) {
    Request request;
    // Descriptors that come with it are closed by the kernel: there is no room for them.
    const ssize_t size = ::recv(client, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size != sizeof request || request.magic != protocol_magic)
        return false;
    return send(client, reply_to(request, processes));
}

UniqueFd accept_client(const ServerOptions& options) {
    UniqueFd client(::accept4(options.listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    ucred peer{};
    socklen_t size = sizeof peer;
    if (client &&
        (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != options.user))
        client.reset();
    return client;
}

struct Clients {
    // The listener has the last place.
    std::array<pollfd, most_clients + 1> polled{};
    std::array<UniqueFd, most_clients> sockets;

    // Who is waited for; false without a client.
    bool prepare(int listener) {
        bool any = false;
        bool room = false;
        for (std::size_t i = 0; i < sockets.size(); ++i) {
            polled[i] = {.fd = sockets[i].get(), .events = POLLIN, .revents = 0};
            any = any || sockets[i];
            room = room || !sockets[i];
        }
        // poll() passes over negative numbers.
        polled.back() = {.fd = room ? listener : -1, .events = POLLIN, .revents = 0};
        return any;
    }

    void add(UniqueFd client) {
        for (UniqueFd& socket : sockets) {
            if (!socket) {
                socket = std::move(client);
                return;
            }
        }
    }
};

}  // namespace

int serve(const ServerOptions& options, const Processes& processes) {
    Clients clients;
    while (true) {
        const bool any = clients.prepare(options.listener);
        const int timeout = any ? -1 : static_cast<int>(options.idle.count());
        const int ready = ::poll(clients.polled.data(), clients.polled.size(), timeout);
        if (ready < 0 && errno != EINTR)
            return -1;
        if (ready == 0)
            return 0;
        // One question of each in turn.
        for (std::size_t i = 0; ready > 0 && i < clients.sockets.size(); ++i)
            if (clients.polled[i].revents != 0 && !answer_one(clients.sockets[i].get(), processes))
                clients.sockets[i].reset();
        const auto listener = clients.polled.back().revents;
        if (ready > 0 && (listener & ~POLLIN) != 0) {
            errno = EBADF;
            return -1;
        }
        if (ready > 0 && listener != 0)
            if (UniqueFd client = accept_client(options))
                clients.add(std::move(client));
    }
}

}  // namespace pangolin::broker
