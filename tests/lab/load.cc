// Short TCP connections at a steady rate, and who answers them. Shares no code with the exporter.
//
//   lab_load serve ADDRESS PORT                 takes a byte, sends one, closes; until standard input ends
//   lab_load dial ADDRESS PORT RATE SECONDS     two threads that connect, send a byte and read to the end
//
// Either prints one line of JSON at its end.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

sockaddr_in address_of(const char* address, const char* port) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
    if (::inet_pton(AF_INET, address, &made.sin_addr) != 1)
        fail("no IPv4 address");
    return made;
}

void answer(int connection, std::uint64_t& bytes) {
    char byte = 0;
    if (::recv(connection, &byte, 1, 0) == 1 && ::send(connection, &byte, 1, MSG_NOSIGNAL) == 1)
        ++bytes;
    ::close(connection);
}

int serve(const sockaddr_in& address) {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener, 4096) != 0)
        fail("cannot listen");
    std::puts("ready");
    std::fflush(stdout);
    std::uint64_t accepted = 0;
    std::uint64_t bytes = 0;
    std::array<pollfd, 2> waiting{{{.fd = listener, .events = POLLIN, .revents = 0},
                                   {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0}}};
    while (::poll(waiting.data(), waiting.size(), -1) >= 0 && waiting[1].revents == 0) {
        const int connection = ::accept(listener, nullptr, nullptr);
        if (connection < 0)
            continue;
        ++accepted;
        answer(connection, bytes);
    }
    std::printf("{\"accepted\": %llu, \"bytes\": %llu}\n", static_cast<unsigned long long>(accepted),
                static_cast<unsigned long long>(bytes));
    return 0;
}

// Whether a byte came back, followed by the end.
bool exchange(const sockaddr_in& address) {
    const int made = ::socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0)
        fail("no socket");
    std::array<char, 16> got{};
    const bool good = ::connect(made, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                      ::send(made, "x", 1, MSG_NOSIGNAL) == 1 &&
                      ::recv(made, got.data(), got.size(), 0) == 1 &&
                      ::recv(made, got.data(), got.size(), 0) == 0;
    ::close(made);
    return good;
}

int dial(const sockaddr_in& address, double rate, double seconds) {
    std::atomic<std::uint64_t> good{0};
    std::atomic<std::uint64_t> bad{0};
    const Clock::time_point begin = Clock::now();
    const auto work = [&] {
        const std::chrono::duration<double> pace(2 / rate);
        auto next = begin;
        while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
            ++(exchange(address) ? good : bad);
            // What is late is made up for.
            next += std::chrono::duration_cast<Clock::duration>(pace);
            std::this_thread::sleep_until(next);
        }
    };
    {
        const std::jthread first(work);
        const std::jthread second(work);
    }
    std::printf("{\"good\": %llu, \"bad\": %llu, \"seconds\": %.2f}\n",
                static_cast<unsigned long long>(good.load()), static_cast<unsigned long long>(bad.load()),
                std::chrono::duration<double>(Clock::now() - begin).count());
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    const std::string_view command = count > 3 ? arguments[1] : "";
    if (command == "serve" && count == 4)
        return serve(address_of(arguments[2], arguments[3]));
    if (command == "dial" && count == 6)
        return dial(address_of(arguments[2], arguments[3]), std::stod(arguments[4]), std::stod(arguments[5]));
    std::fputs("usage: lab_load serve ADDRESS PORT | lab_load dial ADDRESS PORT RATE SECONDS\n", stderr);
    return 2;
}
