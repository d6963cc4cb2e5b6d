// Listens, accepts, and serves HTTP on a thread of its own.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "exporter/http_session.h"
#include "exporter/listen_address.h"
#include "loader/base/error.h"

namespace pangolin {

struct HttpServerOptions {
    // Beyond these somebody makes room (ClientList), or a client gets a 503.
    unsigned max_connections = 512;
    // For the case that somebody has the port, as a sentence.
    std::string port_hint;
};

// Both are called on the server's thread.
struct HttpServerEvents {
    // Their number has changed.
    std::function<void(unsigned connections)> connections = [](unsigned) {};
    // One was turned away because there were too many, the new one or another.
    std::function<void()> rejected = [] {};
};

// Its coroutines refer to the service and the events, and are destroyed with it.
class HttpServer {
  public:
    HttpServer(HttpServerOptions options, HttpService service, HttpServerEvents events);
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;
    ~HttpServer();

    boost::asio::io_context& io() { return io_; }

    // As HttpService::guard. Before run().
    void set_guard(WebGuard* guard) { service_.guard = guard; }

    // Fails with the errno as the error's code: EADDRINUSE for a port that somebody has.
    Result<void> listen(const std::vector<ListenAddress>& addresses);
    // What it listens on, with the ports that were chosen.
    const std::vector<ListenAddress>& addresses() const { return addresses_; }

    // Serves until stop(), with all signals blocked.
    void run();
    // Cuts off all clients.
    void stop();

  private:
    class Count;

    boost::asio::awaitable<void> accept(boost::asio::ip::tcp::acceptor acceptor);
    void take(boost::asio::ip::tcp::socket socket);
    boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket);
    boost::asio::awaitable<void> refuse(boost::asio::ip::tcp::socket socket);

    // The coroutines' frames refer to what stands above `io_`.
    HttpServerOptions options_;
    HttpService service_;
    HttpServerEvents events_;
    ClientList clients_;
    unsigned connections_ = 0;
    unsigned refusals_ = 0;
    std::vector<ListenAddress> addresses_;
    boost::asio::io_context io_{1};
    std::thread thread_;
};

}  // namespace pangolin
