// One TCP connection through lab_newt.
#pragma once

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <functional>
#include <set>

#include "newt_loop.h"

namespace lab {

// Bytes on their way from one side to the other.
struct Stream {
    std::array<std::uint8_t, 1U << 16> buffer;
    std::size_t begin = 0, end = 0;
    bool source_ended = false;
    bool finished = false;  // the end was passed on
};

class Connection;

// Whoever owns the connections.
struct Connections {
    std::function<void(Connection*)> remove;
    std::set<Connection*> to_reset{};  // those that wait for their reset
};

class Connection {
  public:
    // The service and the owner outlive it.
    Connection(Loop& loop, Service& service, Descriptor client, Connections& owner)
        : loop_(loop),
          service_(service),
          owner_(owner),
          mode_(service.mode),
          left_before_reset_(service.reset_after),
          client_(*this, std::move(client)),
          target_(*this, Descriptor()) {
        ++service_.counts.active;
        loop_.add(client_.descriptor.get(), client_.interest, &client_);
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        loop_.forget(&client_);
        loop_.forget(&target_);
        owner_.to_reset.erase(this);
        --service_.counts.active;
    }

    // False when it is to be closed at once.
    bool dial() {
        if (mode_ == Mode::kSilent)
            return true;
        target_.descriptor = make_socket(SOCK_STREAM);
        if (connect(target_.descriptor.get(), plain(service_.target), sizeof service_.target) != 0 &&
            errno != EINPROGRESS)
            return false;
        target_.interest = EPOLLOUT;
        loop_.add(target_.descriptor.get(), target_.interest, &target_);
        return true;
    }

    // Whether the far side has acknowledged all that it was sent; if so it gets a reset.
    bool reset_when_delivered() {
        int unsent = 0;
        if (ioctl(client_.descriptor.get(), SIOCOUTQ, &unsent) == 0 && unsent > 0)
            return false;
        const linger none{.l_onoff = 1, .l_linger = 0};
        setsockopt(client_.descriptor.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
        end(service_.counts.reset_by_mode);
        return true;
    }

  private:
    struct Side : Watched {
        Side(Connection& in, Descriptor of) : connection(in), descriptor(std::move(of)) {}
        void ready(std::uint32_t events) override { connection.ready(*this, events); }
        Connection& connection;
        Descriptor descriptor;
        std::uint32_t interest = EPOLLRDHUP;
    };

    void end(std::uint64_t& cause) {
        ++cause;
        owner_.remove(this);  // the last that happens to it
    }

    void ready(Side& side, std::uint32_t events) {
        if (!connected_) {
            if (&side == &client_) {
                // Nobody reads yet; so only an end of it is of interest.
                if ((events & (EPOLLERR | EPOLLHUP)) != 0)
                    return end(service_.counts.closed_by_error);
                if (mode_ == Mode::kSilent)
                    return end(service_.counts.closed_by_client);
                client_.interest = 0;  // it has said all, and waits for the answer
                return loop_.change(client_.descriptor.get(), 0, &client_);
            }
            if (!finish_dialling())
                return end(service_.counts.closed_undialled);
        }
        if ((events & EPOLLERR) != 0)
            return end(service_.counts.closed_by_error);
        if (!pump(client_, target_, request_, service_.counts.bytes_from_client) ||
            !pump(target_, client_, answer_, service_.counts.bytes_to_client))
            return end(service_.counts.closed_by_error);
        if (request_.finished && answer_.finished)
            return end(client_ended_first_ ? service_.counts.closed_by_client
                                           : service_.counts.closed_by_target);
        watch(client_, request_, answer_);
        watch(target_, answer_, request_);
    }

    bool finish_dialling() {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(target_.descriptor.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0)
            return false;
        connected_ = true;
        ++service_.counts.dialled;
        check_reset();
        return true;
    }

    // Moves what can be moved; false when one of the sides is broken.
    bool pump(Side& from, Side& to, Stream& stream, std::uint64_t& counter) {
        while (true) {
            if (stream.begin == stream.end && !stream.source_ended) {
                const ssize_t got =
                    recv(from.descriptor.get(), stream.buffer.data(), stream.buffer.size(), 0);
                if (got < 0)
                    return errno == EAGAIN;
                if (got == 0) {
                    stream.source_ended = true;
                    if (!request_.source_ended || !answer_.source_ended)
                        client_ended_first_ = &from == &client_;
                }
                stream.begin = 0;
                stream.end = static_cast<std::size_t>(got);
                if (&from == &client_)
                    counter += stream.end;
            }
            if (stream.begin == stream.end) {
                if (!stream.finished)
                    shutdown(to.descriptor.get(), SHUT_WR);
                stream.finished = true;
                return true;
            }
            std::size_t amount = stream.end - stream.begin;
            if (&to == &client_ && mode_ == Mode::kReset)
                amount = std::min<std::size_t>(amount, left_before_reset_);
            if (amount == 0)
                return true;
            const ssize_t sent =
                send(to.descriptor.get(), stream.buffer.data() + stream.begin, amount, MSG_NOSIGNAL);
            if (sent < 0)
                return errno == EAGAIN;
            stream.begin += static_cast<std::size_t>(sent);
            if (&to == &client_) {
                counter += static_cast<std::size_t>(sent);
                left_before_reset_ -=
                    std::min<std::uint64_t>(left_before_reset_, static_cast<std::uint64_t>(sent));
                check_reset();
            }
        }
    }

    void check_reset() {
        if (mode_ == Mode::kReset && left_before_reset_ == 0)
            owner_.to_reset.insert(this);
    }

    void watch(Side& side, const Stream& from_it, const Stream& to_it) {
        const bool exhausted = &side == &client_ && owner_.to_reset.contains(this);
        const std::uint32_t wanted = (!from_it.source_ended && from_it.begin == from_it.end ? EPOLLIN : 0U) |
                                     (to_it.begin != to_it.end && !exhausted ? EPOLLOUT : 0U);
        if (wanted != side.interest)
            loop_.change(side.descriptor.get(), side.interest = wanted, &side);
    }

    Loop& loop_;
    Service& service_;
    Connections& owner_;
    Mode mode_;
    std::uint64_t left_before_reset_;
    bool connected_ = false;
    bool client_ended_first_ = false;
    Stream request_, answer_;
    Side client_, target_;
};

}  // namespace lab
