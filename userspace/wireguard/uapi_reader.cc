#include "userspace/wireguard/uapi_reader.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "loader/uapi_socket.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto time_limit = std::chrono::seconds(2);
constexpr std::size_t first_buffer_size = 1 << 16;
// 10,000 peers take 4 MB.
constexpr std::size_t largest_answer = 256 << 20;
constexpr std::string_view request = "get=1\n\n";
constexpr std::string_view end_of_answer = "\n\n";

// An answer's bytes. They hold private keys, so that no copy is left behind in freed memory.
class SecretBuffer {
  public:
    SecretBuffer() = default;
    SecretBuffer(const SecretBuffer&) = delete;
    SecretBuffer& operator=(const SecretBuffer&) = delete;
    ~SecretBuffer() { clear(); }

    std::string_view content() const { return {bytes_.data(), used_}; }
    // The free space; empty when the answer is as large as one may be.
    std::pair<char*, std::size_t> space() {
        if (used_ == bytes_.size())
            grow();
        return {bytes_.data() + used_, bytes_.size() - used_};
    }
    void add(std::size_t count) { used_ += count; }
    void clear() {
        explicit_bzero(bytes_.data(), used_);
        used_ = 0;
    }

  private:
    void grow() {
        std::vector<char> larger(std::min(2 * bytes_.size(), largest_answer));
        std::ranges::copy(content(), larger.begin());
        explicit_bzero(bytes_.data(), used_);
        bytes_ = std::move(larger);
    }

    std::vector<char> bytes_ = std::vector<char>(first_buffer_size);
    std::size_t used_ = 0;
};

class UapiReader : public WireGuardReader {
  public:
    explicit UapiReader(const WireGuardInterface& interface) : interface_(interface) {}

    Result<void> read(WireGuardDevice& device) override {
        auto done = ask();
        if (done)
            done = parse_uapi(answer_.content(), device);
        answer_.clear();
        if (done)
            return {};
        return failure("WireGuard interface " + interface_.name + " in " + interface_.netns.name + ": " +
                           done.error().what,
                       done.error().hint, done.error().code);
    }

  private:
    Result<void> ask() {
        deadline_ = Clock::now() + time_limit;
        const auto socket = connect_uapi_socket(interface_.uapi_socket);
        if (!socket) {
            Error error = socket.error();
            if (error.code == ENOENT || error.code == ECONNREFUSED || error.code == ESRCH)
                error.code = ENODEV;
            return std::unexpected(std::move(error));
        }
        // A request this short fits into any socket's buffer at once.
        if (send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(request.size()))
            return system_failure(errno, "cannot send to " + interface_.uapi_socket);
        while (!answer_.content().ends_with(end_of_answer)) {
            const auto more = receive(*socket);
            if (!more)
                return std::unexpected(more.error());
            // Some implementations close after one answer; the parser sees whether it is whole.
            if (!*more)
                break;
        }
        return {};
    }

    // False at the end of the stream.
    Result<bool> receive(const UniqueFd& socket) {
        const auto [begin, size] = answer_.space();
        if (size == 0)
            return failure("the answer of " + interface_.uapi_socket + " is too long", {}, EMSGSIZE);
        const ssize_t count = recv(socket.get(), begin, size, 0);
        if (count >= 0) {
            answer_.add(static_cast<std::size_t>(count));
            return count > 0;
        }
        if (errno != EAGAIN && errno != EINTR)
            return system_failure(errno, "cannot read from " + interface_.uapi_socket);
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
        pollfd wanted{.fd = socket.get(), .events = POLLIN, .revents = 0};
        if (left <= 0 || poll(&wanted, 1, static_cast<int>(left)) == 0)
            return system_failure(ETIMEDOUT, interface_.uapi_socket,
                                  "Is the WireGuard implementation stuck?");
        return true;
    }

    WireGuardInterface interface_;
    SecretBuffer answer_;
    Clock::time_point deadline_;
};

}  // namespace

Result<std::unique_ptr<WireGuardReader>> open_uapi_reader(const WireGuardInterface& interface) {
    return std::make_unique<UapiReader>(interface);
}

}  // namespace pangolin
