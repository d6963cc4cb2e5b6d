// A UDP relay that is a line with a known delay and known faults, for kernels without netem.
//
// Stands between a WireGuard site and its host. What comes to --listen goes on to --to from the address
// --from; what comes back goes to whoever sent to --listen last. Each datagram leaves --delay microseconds
// after the kernel took it in. Of a thousand, --lose never leave, and --reorder leave at once, before those
// that came earlier. Which these are follows from the order of arrival alone.
//
//   lab_line --listen 127.0.0.1:51821 --from 198.18.1.2 --to 198.18.1.1:51820 --delay 2500
//            [--lose 30] [--reorder 50] [--seconds 600]
//
// Prints "ready" once it relays. Ends at SIGTERM, SIGINT or after --seconds, and then prints one line of
// JSON: datagrams relayed, dropped on purpose, that overtook others, lost for want of room, and how late the
// latest one left, in microseconds.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t most_held = 8192;
constexpr std::size_t largest_datagram = 65536;
constexpr std::int64_t nanoseconds_per_second = 1'000'000'000;

[[noreturn]] void fail(std::string_view what) {
    std::fprintf(stderr, "lab_line: %.*s: %s\n", static_cast<int>(what.size()), what.data(),
                 std::strerror(errno));
    std::exit(1);
}

[[noreturn]] void refuse(std::string_view what) {
    std::fprintf(stderr, "lab_line: %.*s\n", static_cast<int>(what.size()), what.data());
    std::exit(2);
}

// CLOCK_REALTIME, because the kernel stamps arrivals with it.
std::int64_t now() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * nanoseconds_per_second + time.tv_nsec;
}

struct Faults {
    std::int64_t lose = 0;     // of a thousand datagrams
    std::int64_t reorder = 0;  // of a thousand datagrams
};

struct Totals {
    std::uint64_t relayed = 0;
    std::uint64_t dropped = 0;
    std::uint64_t overtook = 0;
    std::uint64_t lost = 0;
    std::int64_t latest = 0;
};

// A UDP socket that says when each datagram arrived.
int open_socket(const sockaddr_in& address) {
    const int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    const int buffer = 16 << 20;
    if (made < 0 || bind(made, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        fail("socket");
    setsockopt(made, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
    setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    setsockopt(made, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    return made;
}

// One direction of the link.
class Lane {
  public:
    Lane(int from, int to, std::int64_t delay, Faults faults, Totals& totals)
        : from_(from), to_(to), delay_(delay), faults_(faults), totals_(totals) {}

    // Takes everything that is there. `sender` becomes the last one's address.
    void take(sockaddr_in* sender) {
        for (;;) {
            sockaddr_in source{};
            iovec part{buffer_.data(), buffer_.size()};
            alignas(cmsghdr) std::array<char, 128> control{};
            msghdr message{&source, sizeof(source), &part, 1, control.data(), control.size(), 0};
            const ssize_t size = recvmsg(from_, &message, 0);
            if (size < 0 && errno == ECONNREFUSED)
                continue;
            if (size < 0)
                return;
            if (sender != nullptr)
                *sender = source;
            if (held_.size() >= most_held) {
                ++totals_.lost;
                continue;
            }
            const std::int64_t fate = of_a_thousand_(random_);
            if (fate < faults_.lose) {
                ++totals_.dropped;
                continue;
            }
            const bool reorder = fate < faults_.lose + faults_.reorder;
            totals_.overtook += reorder ? 1 : 0;
            held_.emplace(arrival(message) + (reorder ? 0 : delay_),
                          std::vector<char>(buffer_.data(), buffer_.data() + size));
        }
    }

    // Sends what is due to `target`.
    void release(const sockaddr_in& target) {
        while (!held_.empty() && held_.begin()->first <= now()) {
            const auto& [due, content] = *held_.begin();
            totals_.latest = std::max(totals_.latest, now() - due);
            const ssize_t sent = target.sin_port == 0
                                     ? -1
                                     : sendto(to_, content.data(), content.size(), 0,
                                              reinterpret_cast<const sockaddr*>(&target), sizeof(target));
            ++(sent < 0 ? totals_.lost : totals_.relayed);
            held_.erase(held_.begin());
        }
    }

    // 0 when it holds nothing.
    std::int64_t next_due() const { return held_.empty() ? 0 : held_.begin()->first; }

  private:
    static std::int64_t arrival(msghdr& message) {
        for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
             header = CMSG_NXTHDR(&message, header)) {
            if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS) {
                timespec time{};
                std::memcpy(&time, CMSG_DATA(header), sizeof(time));
                return time.tv_sec * nanoseconds_per_second + time.tv_nsec;
            }
        }
        return now();
    }

    int from_;
    int to_;
    std::int64_t delay_;
    Faults faults_;
    Totals& totals_;
    std::mt19937 random_;  // as every run begins
    std::uniform_int_distribution<std::int64_t> of_a_thousand_{0, 999};
    std::multimap<std::int64_t, std::vector<char>> held_;  // by the time at which they leave
    std::array<char, largest_datagram> buffer_{};
};

std::int64_t number(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 0)
        refuse("not a number: " + std::string(text));
    return value;
}

sockaddr_in address_of(std::string_view text) {
    const auto colon = text.find(':');
    const std::string host(text.substr(0, colon));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
        refuse("not an address: " + std::string(text));
    if (colon != std::string_view::npos)
        address.sin_port = htons(static_cast<std::uint16_t>(number(text.substr(colon + 1))));
    return address;
}

struct Options {
    sockaddr_in listen{};
    sockaddr_in from{};
    sockaddr_in to{};
    std::int64_t delay_us = -1;
    Faults faults;
    std::int64_t seconds = 600;
};

Options parse(int count, char** arguments) {
    Options options;
    for (int at = 1; at + 1 < count; at += 2) {
        const std::string_view name = arguments[at];
        const std::string_view value = arguments[at + 1];
        if (name == "--listen")
            options.listen = address_of(value);
        else if (name == "--from")
            options.from = address_of(value);
        else if (name == "--to")
            options.to = address_of(value);
        else if (name == "--delay")
            options.delay_us = number(value);
        else if (name == "--lose")
            options.faults.lose = number(value);
        else if (name == "--reorder")
            options.faults.reorder = number(value);
        else if (name == "--seconds")
            options.seconds = number(value);
        else
            refuse("unknown option " + std::string(name));
    }
    if (options.listen.sin_port == 0 || options.to.sin_port == 0 || options.delay_us < 0)
        refuse("needs --listen ADDRESS:PORT --from ADDRESS --to ADDRESS:PORT --delay MICROSECONDS");
    return options;
}

void arm(int timer, std::int64_t due) {
    itimerspec when{};
    // A time that has passed fires at once; all zeros would disarm.
    when.it_value = {due / nanoseconds_per_second, due % nanoseconds_per_second};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr) != 0)
        fail("timerfd_settime");
}

int signals() {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    return signalfd(-1, &wanted, SFD_CLOEXEC);
}

void relay(const Options& options) {
    Totals totals;
    const int inner = open_socket(options.listen);
    const int outer = open_socket(options.from);
    const int timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    const int stop = signals();
    Lane outward(inner, outer, options.delay_us * 1000, options.faults, totals);
    Lane inward(outer, inner, options.delay_us * 1000, options.faults, totals);
    sockaddr_in client{};
    const std::int64_t end = now() + options.seconds * nanoseconds_per_second;

    const int waiter = epoll_create1(EPOLL_CLOEXEC);
    for (const int one : {inner, outer, timer, stop}) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = one}};
        if (epoll_ctl(waiter, EPOLL_CTL_ADD, one, &event) != 0)
            fail("epoll_ctl");
    }
    // Timers of ordinary threads may be up to 50 us late on purpose.
    prctl(PR_SET_TIMERSLACK, 1);
    std::puts("ready");
    std::fflush(stdout);

    for (bool ended = false; !ended && now() < end;) {
        epoll_event event{};
        if (epoll_wait(waiter, &event, 1, 1000) > 0) {
            ended = event.data.fd == stop;
            std::uint64_t expirations = 0;
            if (event.data.fd == timer && read(timer, &expirations, sizeof(expirations)) < 0 &&
                errno != EAGAIN)
                fail("read");
        }
        outward.take(&client);
        inward.take(nullptr);
        outward.release(options.to);
        inward.release(client);
        const std::int64_t first = outward.next_due();
        const std::int64_t second = inward.next_due();
        if (first != 0 || second != 0)
            arm(timer, first == 0 || (second != 0 && second < first) ? second : first);
    }
    std::printf(
        "{\"relayed\": %llu, \"dropped\": %llu, \"overtook\": %llu, \"lost\": %llu, \"latest_us\": %lld}\n",
        static_cast<unsigned long long>(totals.relayed), static_cast<unsigned long long>(totals.dropped),
        static_cast<unsigned long long>(totals.overtook), static_cast<unsigned long long>(totals.lost),
        static_cast<long long>(totals.latest / 1000));
}

}  // namespace

int main(int count, char** arguments) {
    relay(parse(count, arguments));
    return 0;
}
