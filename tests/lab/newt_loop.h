// What lab_newt's parts share: descriptors, the epoll loop, the services and their counts.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

namespace lab {

[[noreturn]] inline void fail(std::string_view what) {
    std::fprintf(stderr, "lab_newt: %.*s: %s\n", static_cast<int>(what.size()), what.data(),
                 std::strerror(errno));
    std::exit(1);
}

[[noreturn]] inline void refuse(std::string_view what) {
    std::fprintf(stderr, "lab_newt: %.*s\n", static_cast<int>(what.size()), what.data());
    std::exit(2);
}

class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() { reset(); }
    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }
    void reset() {
        if (number_ >= 0)
            close(std::exchange(number_, -1));
    }

  private:
    int number_;
};

// ---- the loop

// Something that epoll wakes. It may die at any time: what is still pending for it is then forgotten.
class Watched {
  public:
    Watched() = default;
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;
    virtual ~Watched() = default;
    virtual void ready(std::uint32_t events) = 0;
};

class Loop {
  public:
    Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        if (!epoll_)
            fail("epoll_create1");
    }
    void add(int descriptor, std::uint32_t events, Watched* watched) {
        control(EPOLL_CTL_ADD, descriptor, events, watched);
    }
    void change(int descriptor, std::uint32_t events, Watched* watched) {
        control(EPOLL_CTL_MOD, descriptor, events, watched);
    }
    // Before the watched one dies; its descriptor leaves epoll when it is closed.
    void forget(const Watched* watched) {
        for (int at = 0; at < pending_; ++at)
            if (events_[static_cast<std::size_t>(at)].data.ptr == watched)
                events_[static_cast<std::size_t>(at)].data.ptr = nullptr;
    }
    void turn(int milliseconds) {
        pending_ = epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), milliseconds);
        if (pending_ < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int at = 0; at < pending_; ++at) {
            const epoll_event& event = events_[static_cast<std::size_t>(at)];
            if (event.data.ptr != nullptr)
                static_cast<Watched*>(event.data.ptr)->ready(event.events);
        }
        pending_ = 0;
    }

  private:
    void control(int operation, int descriptor, std::uint32_t events, Watched* watched) {
        epoll_event event{.events = events, .data = {.ptr = watched}};
        if (epoll_ctl(epoll_.get(), operation, descriptor, &event) != 0)
            fail("epoll_ctl");
    }

    Descriptor epoll_;
    std::array<epoll_event, 256> events_{};
    int pending_ = 0;
};

// ---- what is counted

enum class Mode { kRelay, kSilent, kClose, kReset, kAbsent };
constexpr std::array kModeNames{"relay", "silent", "close", "reset", "absent"};

struct Counts {
    std::uint64_t accepted = 0;  // UDP: clients
    std::uint64_t dialled = 0;
    std::uint64_t closed_by_client = 0;  // the client was the first to end it
    std::uint64_t closed_by_target = 0;
    std::uint64_t closed_by_error = 0;   // either side was reset or timed out
    std::uint64_t closed_undialled = 0;  // the target could not be reached: refused or worse
    std::uint64_t closed_by_mode = 0;    // `close` and `cut`
    std::uint64_t reset_by_mode = 0;     // `reset`
    std::uint64_t active = 0;
    std::uint64_t bytes_from_client = 0;  // payload
    std::uint64_t bytes_to_client = 0;
    std::uint64_t datagrams_from_client = 0;
    std::uint64_t datagrams_to_client = 0;
    std::uint64_t datagrams_lost = 0;  // refused by the target, or no room in a buffer
};

// One port: where it listens, whom it dials, how it behaves.
struct Service {
    bool udp = false;
    sockaddr_in listen{};
    sockaddr_in target{};
    Mode mode = Mode::kRelay;
    std::uint64_t reset_after = 0;
    Counts counts{};
};

inline const sockaddr* plain(const sockaddr_in& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

inline Descriptor make_socket(int kind) {
    Descriptor made(socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!made)
        fail("socket");
    return made;
}

}  // namespace lab
