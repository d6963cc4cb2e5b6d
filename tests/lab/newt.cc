// newt's proxy, as the host sees it: listens where Traefik dials, accepts first, then dials the real target.
//
// A target that is down shows as a connection that is established and closed at once, as with the real newt.
// Each listener can be told to misbehave, and counts what it has seen, so that it is a witness too.
//
//   lab_newt --tcp 100.89.128.4:40001=127.0.0.1:8080 --udp 100.89.128.4:40002=127.0.0.1:9000 ...
//
// Prints "ready" once it listens. Commands are lines on its input, and each is answered by one line:
//   report                       JSON by listening port, and once more at SIGTERM or SIGINT
//   mode PORT relay              the ordinary way
//   mode PORT silent             accept, and neither dial nor answer
//   mode PORT close              accept, then close at once (TCP)
//   mode PORT reset BYTES        relay so much of the answer; once the far side has all of that, reset (TCP)
//   mode PORT absent             do not listen
//   cut PORT                     close all connections that there are (TCP)
// A mode is for connections accepted from then on.

#include <sys/resource.h>
#include <sys/signalfd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "newt_loop.h"
#include "newt_tcp.h"

namespace lab {
namespace {

using Clock = std::chrono::steady_clock;

// ---- UDP

// One client of a UDP service: the target's answers to this socket are for it.
class Flow : public Watched {
  public:
    Flow(Loop& loop, Service& service, int listener, const sockaddr_in& client)
        : loop_(loop),
          service_(service),
          listener_(listener),
          client_(client),
          socket_(make_socket(SOCK_DGRAM)) {
        if (connect(socket_.get(), plain(service.target), sizeof service.target) != 0)
            fail("connect a UDP socket");
        loop_.add(socket_.get(), EPOLLIN, this);
        ++service_.counts.active;
    }
    ~Flow() override {
        loop_.forget(this);
        --service_.counts.active;
    }

    void pass_on(std::string_view datagram) {
        last_used_ = Clock::now();
        // An error that came in the meantime is reported instead of sending; it concerns an earlier datagram.
        for (int attempt = 0; attempt < 2; ++attempt) {
            if (send(socket_.get(), datagram.data(), datagram.size(), 0) >= 0)
                return;
            ++service_.counts.datagrams_lost;
            if (errno != ECONNREFUSED)
                return;
        }
    }

    void ready(std::uint32_t) override {
        std::array<char, 1U << 16> datagram;
        while (true) {
            const ssize_t got = recv(socket_.get(), datagram.data(), datagram.size(), 0);
            if (got < 0 && errno == EAGAIN)
                return;
            last_used_ = Clock::now();
            if (got < 0 || sendto(listener_, datagram.data(), static_cast<std::size_t>(got), 0,
                                  plain(client_), sizeof client_) < 0) {
                ++service_.counts.datagrams_lost;
                continue;
            }
            ++service_.counts.datagrams_to_client;
            service_.counts.bytes_to_client += static_cast<std::size_t>(got);
        }
    }

    bool idle(Clock::time_point now) const { return now - last_used_ > std::chrono::seconds(60); }

  private:
    Loop& loop_;
    Service& service_;
    int listener_;
    sockaddr_in client_;
    Descriptor socket_;
    Clock::time_point last_used_ = Clock::now();
};

// ---- listeners

class Listener : public Watched {
  public:
    Listener(Loop& loop, Service service)
        : loop_(loop), service_(service), owner_{[this](Connection* done) { connections_.erase(done); }} {
        open();
    }
    ~Listener() override { loop_.forget(this); }

    Service& service() { return service_; }

    void set_mode(Mode mode, std::uint64_t reset_after) {
        service_.reset_after = reset_after;
        if (service_.mode == mode)
            return;
        const bool was_absent = std::exchange(service_.mode, mode) == Mode::kAbsent;
        if (mode == Mode::kAbsent) {
            loop_.forget(this);
            flows_.clear();
            socket_.reset();
        } else if (was_absent) {
            open();
        }
    }

    void ready(std::uint32_t) override { service_.udp ? receive() : accept_all(); }

    // True while there is one that waits for its reset.
    bool reset_delivered() {
        for (Connection* connection : std::set(owner_.to_reset))
            connection->reset_when_delivered();
        return !owner_.to_reset.empty();
    }

    void cut() {
        service_.counts.closed_by_mode += connections_.size();
        connections_.clear();
    }

    void drop_idle_flows() {
        std::erase_if(flows_, [now = Clock::now()](const auto& entry) { return entry.second->idle(now); });
    }

  private:
    void open() {
        socket_ = make_socket(service_.udp ? SOCK_DGRAM : SOCK_STREAM);
        const int yes = 1;
        if (!service_.udp)
            setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        const int room = 4 << 20;
        if (service_.udp)
            setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        if (bind(socket_.get(), plain(service_.listen), sizeof service_.listen) != 0)
            fail("bind");
        if (!service_.udp && listen(socket_.get(), SOMAXCONN) != 0)
            fail("listen");
        loop_.add(socket_.get(), EPOLLIN, this);
    }

    void accept_all() {
        while (true) {
            Descriptor client(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!client) {
                if (errno == EAGAIN)
                    return;
                if (errno == ECONNABORTED || errno == EINTR)
                    continue;
                fail("accept");
            }
            ++service_.counts.accepted;
            if (service_.mode == Mode::kClose) {
                ++service_.counts.closed_by_mode;
                continue;
            }
            auto made = std::make_unique<Connection>(loop_, service_, std::move(client), owner_);
            if (made->dial())
                connections_.emplace(made.get(), std::move(made));
            else
                ++service_.counts.closed_undialled;
        }
    }

    void receive() {
        std::array<char, 1U << 16> datagram;
        while (true) {
            sockaddr_in client{};
            socklen_t size = sizeof client;
            const ssize_t got = recvfrom(socket_.get(), datagram.data(), datagram.size(), 0,
                                         reinterpret_cast<sockaddr*>(&client), &size);
            if (got < 0)
                return;
            ++service_.counts.datagrams_from_client;
            service_.counts.bytes_from_client += static_cast<std::size_t>(got);
            if (service_.mode == Mode::kRelay)
                flow_of(client).pass_on(std::string_view(datagram.data(), static_cast<std::size_t>(got)));
        }
    }

    Flow& flow_of(const sockaddr_in& client) {
        auto& flow = flows_[std::uint64_t{client.sin_addr.s_addr} << 16 | client.sin_port];
        if (!flow) {
            ++service_.counts.accepted;
            flow = std::make_unique<Flow>(loop_, service_, socket_.get(), client);
            ++service_.counts.dialled;
        }
        return *flow;
    }

    Loop& loop_;
    Service service_;
    Connections owner_;
    Descriptor socket_;
    std::map<Connection*, std::unique_ptr<Connection>> connections_;
    std::map<std::uint64_t, std::unique_ptr<Flow>> flows_;
};

// By port: Pangolin's internal ports are unique within a site.
using Listeners = std::map<unsigned, std::unique_ptr<Listener>>;

// ---- the report and the commands

std::string report(Listeners& listeners) {
    std::ostringstream out;
    out << '{';
    for (auto& [port, listener] : listeners) {
        const Service& service = listener->service();
        const Counts& counts = service.counts;
        out << (port == listeners.begin()->first ? "" : ",") << '"' << port << "\":{\"protocol\":\""
            << (service.udp ? "udp" : "tcp") << "\",\"mode\":\""
            << kModeNames[static_cast<std::size_t>(service.mode)] << '"';
        const std::pair<const char*, std::uint64_t> numbers[] = {
            {"accepted", counts.accepted},
            {"dialled", counts.dialled},
            {"active", counts.active},
            {"closed_by_client", counts.closed_by_client},
            {"closed_by_target", counts.closed_by_target},
            {"closed_by_error", counts.closed_by_error},
            {"closed_undialled", counts.closed_undialled},
            {"closed_by_mode", counts.closed_by_mode},
            {"reset_by_mode", counts.reset_by_mode},
            {"bytes_from_client", counts.bytes_from_client},
            {"bytes_to_client", counts.bytes_to_client},
            {"datagrams_from_client", counts.datagrams_from_client},
            {"datagrams_to_client", counts.datagrams_to_client},
            {"datagrams_lost", counts.datagrams_lost},
        };
        for (const auto& [name, value] : numbers)
            out << ",\"" << name << "\":" << value;
        out << '}';
    }
    out << '}';
    return out.str();
}

std::string obey(const std::string& line, Listeners& listeners) {
    std::istringstream words(line);
    std::string verb, name;
    unsigned port = 0;
    std::uint64_t bytes = 0;
    words >> verb;
    if (verb == "report")
        return report(listeners);
    if (!(words >> port) || !listeners.contains(port))
        return "error: report | mode PORT NAME [BYTES] | cut PORT, and a port that is mine";
    if (verb == "cut") {
        listeners.at(port)->cut();
        return "ok";
    }
    words >> name;
    const auto* mode =
        std::ranges::find_if(kModeNames, [&](std::string_view known) { return known == name; });
    if (mode == kModeNames.end() || (name == "reset" && !(words >> bytes)))
        return "error: relay | silent | close | reset BYTES | absent";
    listeners.at(port)->set_mode(static_cast<Mode>(mode - kModeNames.begin()), bytes);
    return "ok";
}

class Commands : public Watched {
  public:
    Commands(Loop& loop, Listeners& listeners) : loop_(loop), listeners_(listeners) {
        loop_.add(STDIN_FILENO, EPOLLIN, this);
    }
    void ready(std::uint32_t) override {
        std::array<char, 4096> part;
        const ssize_t got = read(STDIN_FILENO, part.data(), part.size());
        if (got <= 0)
            return loop_.change(STDIN_FILENO, EPOLLET,
                                this);  // nobody asks any more; only the signal is left
        text_.append(part.data(), static_cast<std::size_t>(got));
        for (std::size_t end; (end = text_.find('\n')) != std::string::npos; text_.erase(0, end + 1)) {
            std::puts(obey(text_.substr(0, end), listeners_).c_str());
            std::fflush(stdout);
        }
    }

  private:
    Loop& loop_;
    Listeners& listeners_;
    std::string text_;
};

class Termination : public Watched {
  public:
    explicit Termination(Loop& loop) {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, nullptr);
        descriptor_ = Descriptor(signalfd(-1, &signals, SFD_CLOEXEC));
        if (!descriptor_)
            fail("signalfd");
        loop.add(descriptor_.get(), EPOLLIN, this);
    }
    void ready(std::uint32_t) override { asked_ = true; }
    bool asked() const { return asked_; }

  private:
    Descriptor descriptor_;
    bool asked_ = false;
};

// ---- the command line

sockaddr_in parse_address(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    std::uint16_t port = 0;
    if (colon == std::string_view::npos ||
        inet_pton(AF_INET, std::string(text.substr(0, colon)).c_str(), &address.sin_addr) != 1 ||
        std::from_chars(text.data() + colon + 1, text.data() + text.size(), port).ptr !=
            text.data() + text.size())
        refuse("not ADDRESS:PORT: " + std::string(text));
    address.sin_port = htons(port);
    return address;
}

Service parse_service(std::string_view option, std::string_view value) {
    const std::size_t equals = value.find('=');
    if ((option != "--tcp" && option != "--udp") || equals == std::string_view::npos)
        refuse("usage: lab_newt (--tcp | --udp) LISTEN=TARGET ...");
    return {.udp = option == "--udp",
            .listen = parse_address(value.substr(0, equals)),
            .target = parse_address(value.substr(equals + 1))};
}

int run(int argc, char** argv) {
    const rlimit files{.rlim_cur = 1U << 18, .rlim_max = 1U << 18};
    setrlimit(RLIMIT_NOFILE, &files);
    Loop loop;
    Termination termination(loop);
    Listeners listeners;
    for (int at = 1; at < argc; at += 2) {
        const Service service = parse_service(argv[at], at + 1 < argc ? argv[at + 1] : "");
        listeners.emplace(ntohs(service.listen.sin_port), std::make_unique<Listener>(loop, service));
    }
    Commands commands(loop, listeners);
    std::puts("ready");
    std::fflush(stdout);
    auto next_tidying = Clock::now();
    while (!termination.asked()) {
        bool waiting = false;
        for (auto& [port, listener] : listeners)
            waiting |= listener->reset_delivered();
        loop.turn(waiting ? 1 : 1000);
        if (Clock::now() < next_tidying)
            continue;
        next_tidying = Clock::now() + std::chrono::seconds(1);
        for (auto& [port, listener] : listeners)
            listener->drop_idle_flows();
    }
    std::puts(report(listeners).c_str());
    std::fflush(stdout);
    return 0;
}

}  // namespace
}  // namespace lab

int main(int argc, char** argv) {
    return lab::run(argc, argv);
}
