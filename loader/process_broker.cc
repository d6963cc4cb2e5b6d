#include "loader/process_broker.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace pangolin {
namespace {

using broker::Answer;
using broker::NamespaceEntry;
using broker::Question;
using broker::Request;

// How long a broker that failed is left alone, so that many questions do not wait for it one after the other:
// at least so long, and several times what the last question waited.
constexpr std::chrono::seconds patience{1};
constexpr int pauses_per_silence = 5;

constexpr const char* restart_hint =
    "systemctl restart pangolin_process_broker.socket; journalctl -u pangolin_process_broker says what it "
    "met.";
constexpr const char* owner_hint =
    "It is there for the owner of its socket alone: run as that user, or as root. "
    "journalctl -u pangolin_process_broker says what it met.";

std::unexpected<Error> broker_failure(int code, const std::string& path, std::string_view what,
                                      const char* hint = restart_hint) {
    // What a call with a time limit says at its end.
    code = code == EAGAIN ? ETIMEDOUT : code;
    Error error = system_failure(code, "the process broker at " + path + " " + std::string(what),
                                 code == EACCES ? owner_hint : hint)
                      .error();
    // For a namespace ENOENT means that it is gone.
    error.code = code == ENOENT ? ECONNREFUSED : code;
    return std::unexpected(std::move(error));
}

std::optional<Error> process_error(int code, pid_t pid, const char* what) {
    if (code == 0)
        return std::nullopt;
    return system_failure(code, std::string(what) + " of process " + std::to_string(pid)).error();
}

// All of them, so that none stays open: the kernel rounds the room for one up to that for two.
std::vector<UniqueFd> received_descriptors(msghdr& message) {
    std::vector<UniqueFd> descriptors;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
            int descriptor = -1;
            std::memcpy(&descriptor, reinterpret_cast<const char*>(header) + at, sizeof descriptor);
            descriptors.emplace_back(descriptor);
        }
    }
    return descriptors;
}

// A call with a time limit is not taken up again by itself after a signal (signal(7)).
template <class Call>
ssize_t uninterrupted(const Call& call) {
    ssize_t result = 0;
    do
        result = call();
    while (result < 0 && errno == EINTR);
    return result;
}

bool gives_descriptor(Question question) {
    return question == Question::process_folder || question == Question::network_namespace ||
           question == Question::root_folder;
}

// Whether an answer is one to this request, and all of it is there.
bool fits(const Answer& answer, std::size_t payload, std::size_t descriptors, const Request& request) {
    const auto question = static_cast<Question>(request.question);
    const bool is_text = question == Question::working_directory;
    const std::size_t expected =
        is_text ? std::min(payload, broker::largest_text) : answer.entries * sizeof(NamespaceEntry);
    return answer.magic == request.magic && answer.version == request.version &&
           answer.question == request.question && answer.pid == request.pid && answer.error >= 0 &&
           payload == expected && descriptors == (answer.error == 0 && gives_descriptor(question) ? 1 : 0);
}

}  // namespace

std::string ProcessBroker::usual_socket() {
    return PANGOLIN_BROKER_SOCKET;
}

ProcessBroker::ProcessBroker(std::string socket, std::chrono::milliseconds time_limit)
    : path_(std::move(socket)), time_limit_(time_limit) {}

bool ProcessBroker::present() {
    const std::lock_guard lock(mutex_);
    struct stat file{};
    return state_ != State::untried || (::stat(path_.c_str(), &file) == 0 && S_ISSOCK(file.st_mode));
}

Result<int> ProcessBroker::process_folder() {
    {
        const std::lock_guard lock(mutex_);
        if (folder_)
            return folder_.get();
    }
    auto folder = open(Question::process_folder, 0, "the folder");
    if (!folder)
        return std::unexpected(std::move(folder.error()));
    const std::lock_guard lock(mutex_);
    // Another thread may have had it first.
    if (!folder_)
        folder_ = std::move(*folder);
    return folder_.get();
}

Result<UniqueFd> ProcessBroker::open_network_namespace(pid_t pid) {
    return open(Question::network_namespace, pid, "the network namespace");
}

Result<UniqueFd> ProcessBroker::open_root_folder(pid_t pid) {
    return open(Question::root_folder, pid, "the root folder");
}

Result<std::string> ProcessBroker::working_directory(pid_t pid) {
    auto reply = ask(Question::working_directory, pid);
    if (!reply)
        return std::unexpected(std::move(reply.error()));
    if (auto error = process_error(reply->answer.error, pid, "the working directory"))
        return std::unexpected(std::move(*error));
    return std::move(reply->payload);
}

Result<std::vector<ProcessNamespace>> ProcessBroker::network_namespaces() {
    return list(Question::network_namespaces);
}

Result<std::vector<ProcessNamespace>> ProcessBroker::mount_namespaces() {
    return list(Question::mount_namespaces);
}

Result<UniqueFd> ProcessBroker::open(Question question, pid_t pid, const char* what) {
    auto reply = ask(question, pid);
    if (!reply)
        return std::unexpected(std::move(reply.error()));
    if (auto error = process_error(reply->answer.error, pid, what))
        return std::unexpected(std::move(*error));
    return std::move(reply->descriptor);
}

Result<std::vector<ProcessNamespace>> ProcessBroker::list(Question question) {
    std::vector<ProcessNamespace> found;
    for (pid_t next = 0;;) {
        const auto reply = ask(question, next);
        if (!reply)
            return std::unexpected(reply.error());
        if (reply->answer.error != 0)
            return broker_failure(reply->answer.error, path_, "cannot list processes");
        for (std::size_t i = 0; i < reply->answer.entries; ++i) {
            NamespaceEntry entry;
            std::memcpy(&entry, reply->payload.data() + i * sizeof entry, sizeof entry);
            if (entry.pid < next || entry.pid == INT_MAX)
                return broker_failure(EPROTO, path_, "lists processes out of order");
            next = entry.pid + 1;
            found.push_back({entry.pid, entry.error, entry.device, entry.inode});
        }
        // Each page has something, so that there is an end.
        if (reply->answer.more == 0 || reply->answer.entries == 0)
            return found;
    }
}

Result<ProcessBroker::Reply> ProcessBroker::ask(Question question, pid_t pid) {
    Request request;
    request.question = static_cast<std::uint16_t>(question);
    request.pid = pid;
    const std::lock_guard asking(asking_);
    if (auto failure = recent_failure())
        return std::unexpected(std::move(*failure));
    auto reply = exchange(request);
    // It may have been started anew since the last question.
    if (!reply && reply.error().code == ECONNRESET)
        reply = exchange(request);
    const std::lock_guard lock(mutex_);
    if (!reply) {
        failed_ = reply.error();
        failed_at_ = std::chrono::steady_clock::now();
        if (std::exchange(state_, State::fails) != State::fails)
            spdlog::warn("{}", failed_.message());
    } else if (std::exchange(state_, State::answers) != State::answers) {
        spdlog::info("looking into processes through the broker at {}", path_);
    }
    return reply;
}

std::optional<Error> ProcessBroker::recent_failure() {
    const std::lock_guard lock(mutex_);
    const std::chrono::milliseconds pause =
        failed_.code == ETIMEDOUT
            ? std::max<std::chrono::milliseconds>(patience, pauses_per_silence * time_limit_)
            : patience;
    const bool is_recent = state_ == State::fails && std::chrono::steady_clock::now() - failed_at_ < pause;
    return is_recent ? std::optional(failed_) : std::nullopt;
}

Result<ProcessBroker::Reply> ProcessBroker::exchange(const Request& request) {
    if (auto connected = connect(); !connected)
        return std::unexpected(std::move(connected.error()));
    Result<Reply> reply;
    if (uninterrupted([&] { return ::send(connection_.get(), &request, sizeof request, MSG_NOSIGNAL); }) < 0)
        reply = errno == EPIPE || errno == ECONNRESET
                    ? broker_failure(ECONNRESET, path_, "hung up", owner_hint)
                    : broker_failure(errno, path_, "takes no question");
    else
        reply = receive(request);
    if (!reply)
        connection_.reset();
    return reply;
}

Result<void> ProcessBroker::connect() {
    if (connection_)
        return {};
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket)
        return system_failure(errno, "cannot open a UNIX socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof address.sun_path)
        return broker_failure(ENAMETOOLONG, path_, "cannot be asked");
    path_.copy(address.sun_path, path_.size());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time_limit_);
    const timeval limit{seconds.count(), std::chrono::microseconds(time_limit_ - seconds).count()};
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        return system_failure(errno, "cannot set a time limit");
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return broker_failure(errno, path_, "cannot be asked");
    connection_ = std::move(socket);
    return {};
}

Result<ProcessBroker::Reply> ProcessBroker::receive(const Request& request) {
    Reply reply;
    reply.payload.resize(broker::largest_payload);
    std::array<iovec, 2> parts{iovec{&reply.answer, sizeof reply.answer},
                               iovec{reply.payload.data(), reply.payload.size()}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size =
        uninterrupted([&] { return ::recvmsg(connection_.get(), &message, MSG_CMSG_CLOEXEC); });
    const int code = size < 0 ? errno : 0;
    if (size == 0 || code == ECONNRESET)
        return broker_failure(ECONNRESET, path_, "hung up", owner_hint);
    if (size < 0)
        return broker_failure(code, path_, "does not answer");
    std::vector<UniqueFd> descriptors = received_descriptors(message);
    const bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    if (!whole || static_cast<std::size_t>(size) < sizeof reply.answer || reply.answer.error == EPROTO)
        return broker_failure(EPROTO, path_, "is of another version than this exporter");
    const std::size_t payload = static_cast<std::size_t>(size) - sizeof reply.answer;
    if (!fits(reply.answer, payload, descriptors.size(), request))
        return broker_failure(EPROTO, path_, "is of another version than this exporter");
    reply.payload.resize(payload);
    if (!descriptors.empty())
        reply.descriptor = std::move(descriptors.front());
    return reply;
}

}  // namespace pangolin
