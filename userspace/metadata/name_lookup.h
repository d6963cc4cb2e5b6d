// Addresses of a host that is given by its name.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

// What getaddrinfo(3) says within `time_limit`, which is looked at by nobody in there: with name servers that
// do not answer it takes 10 s and more, and it cannot be told to stop. So it runs on a thread of its own, in
// the caller's network namespace, that is left behind when the time is over or `stop` asks for an end; of
// such threads there are few. An address needs none.
Result<std::vector<boost::asio::ip::tcp::endpoint>> look_up(const std::string& host, std::uint16_t port,
                                                            std::chrono::milliseconds time_limit,
                                                            const std::stop_token& stop = {});

}  // namespace pangolin
