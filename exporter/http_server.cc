#include "exporter/http_server.h"

#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <thread>
#include <tuple>
#include <utility>

#include "exporter/port_owner.h"
#include "exporter/signals_blocked.h"

namespace pangolin {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// Connections beyond the limit that are told so; yet more are closed without a word.
constexpr unsigned max_refusals = 32;
// After a failed accept (no descriptors left): the cause does not go away at once.
constexpr std::chrono::milliseconds accept_pause{200};

std::unexpected<Error> listen_failure(error_code error, const ListenAddress& address,
                                      const std::string& port_hint) {
    const std::string port = std::to_string(address.port);
    const std::string where = address.host.empty() ? "all addresses" : address.host;
    if (error.value() == EADDRINUSE) {
        const std::string owner = port_owner(address.port);
        return failure("port " + port + " on " + where + " is in use" + (owner.empty() ? "" : " by " + owner),
                       port_hint, error.value());
    }
    std::string hint;
    if (error.value() == EADDRNOTAVAIL)
        hint = "No interface of this host has that address.";
    else if (error.value() == EACCES)
        hint = "Ports below 1024 need CAP_NET_BIND_SERVICE.";
    return failure("cannot listen on " + address.to_string() + ": " + error.message(), std::move(hint),
                   error.value());
}

Result<tcp::acceptor> open_acceptor(asio::io_context& io, const tcp::endpoint& endpoint, bool v6_only,
                                    const ListenAddress& address, const std::string& port_hint) {
    try {
        tcp::acceptor acceptor(io, endpoint.protocol());
        acceptor.set_option(tcp::acceptor::reuse_address(true));
        if (endpoint.protocol() == tcp::v6())
            acceptor.set_option(asio::ip::v6_only(v6_only));
        acceptor.bind(endpoint);
        acceptor.listen();
        return acceptor;
    } catch (const boost::system::system_error& error) {
        return listen_failure(error.code(), address, port_hint);
    }
}

Result<std::vector<tcp::acceptor>> open_acceptors(asio::io_context& io, const ListenAddress& address,
                                                  const std::string& port_hint) {
    std::vector<tcp::acceptor> acceptors;
    if (address.host.empty()) {
        // One socket for both families, where the kernel has IPv6.
        Result<tcp::acceptor> both = open_acceptor(io, {tcp::v6(), address.port}, false, address, port_hint);
        if (!both && both.error().code != EADDRINUSE)
            both = open_acceptor(io, {tcp::v4(), address.port}, false, address, port_hint);
        if (!both)
            return std::unexpected(both.error());
        acceptors.push_back(std::move(*both));
        return acceptors;
    }
    error_code error;
    const auto found = tcp::resolver(io).resolve(address.host, std::to_string(address.port), error);
    if (error)
        return failure("cannot listen on " + address.to_string() + ": " + error.message(),
                       "Write an address of this host, such as 0.0.0.0 or ::1.");
    for (const auto& entry : found) {
        Result<tcp::acceptor> acceptor = open_acceptor(io, entry.endpoint(), true, address, port_hint);
        if (!acceptor)
            return std::unexpected(acceptor.error());
        acceptors.push_back(std::move(*acceptor));
    }
    return acceptors;
}

// An exception ends the session that it is from (out of memory), nothing else.
void drop(const std::exception_ptr&) {}

// An acceptor has none to throw; one that does is a defect that must not pass as a server without a door.
void rethrow(const std::exception_ptr& error) {
    if (error)
        std::rethrow_exception(error);
}

}  // namespace

// Counts for as long as it lives.
class HttpServer::Count {
  public:
    explicit Count(unsigned& count) : count_(count) { ++count_; }
    Count(const Count&) = delete;
    Count& operator=(const Count&) = delete;
    ~Count() { --count_; }

  private:
    unsigned& count_;
};

HttpServer::HttpServer(HttpServerOptions options, HttpService service, HttpServerEvents events)
    : options_(std::move(options)), service_(std::move(service)), events_(std::move(events)) {}

HttpServer::~HttpServer() {
    stop();
}

Result<void> HttpServer::listen(const std::vector<ListenAddress>& addresses) {
    for (const ListenAddress& address : addresses) {
        Result<std::vector<tcp::acceptor>> acceptors = open_acceptors(io_, address, options_.port_hint);
        if (!acceptors)
            return std::unexpected(acceptors.error());
        for (tcp::acceptor& acceptor : *acceptors) {
            const tcp::endpoint bound = acceptor.local_endpoint();
            addresses_.push_back({.host = bound.address().to_string(), .port = bound.port()});
            asio::co_spawn(io_, accept(std::move(acceptor)), rethrow);
        }
    }
    return {};
}

void HttpServer::run() {
    const SignalsBlocked signals_blocked;
    thread_ = std::thread([this] { io_.run(); });
}

void HttpServer::stop() {
    io_.stop();
    if (thread_.joinable())
        thread_.join();
}

asio::awaitable<void> HttpServer::accept(tcp::acceptor acceptor) {
    for (;;) {
        error_code error;
        tcp::socket socket = co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            asio::steady_timer pause(io_, accept_pause);
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        std::ignore = socket.set_option(tcp::no_delay(true), error);
        take(std::move(socket));
    }
}

void HttpServer::take(tcp::socket socket) {
    const bool full = connections_ >= options_.max_connections;
    if (full)
        events_.rejected();
    if (!full || clients_.make_room()) {
        asio::co_spawn(io_, serve(std::move(socket)), drop);
        return;
    }
    if (refusals_ < max_refusals)
        asio::co_spawn(io_, refuse(std::move(socket)), drop);
}

asio::awaitable<void> HttpServer::serve(tcp::socket socket) {
    {
        const Count count(connections_);
        events_.connections(connections_);
        co_await serve_http(std::move(socket), service_, clients_);
    }
    events_.connections(connections_);
}

asio::awaitable<void> HttpServer::refuse(tcp::socket socket) {
    const Count count(refusals_);
    co_await refuse_http(std::move(socket), service_, http::status::service_unavailable,
                         "Too many connections.\n");
}

}  // namespace pangolin
