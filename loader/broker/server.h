// The broker's clients and what they are answered.
#pragma once

#include <sys/types.h>

#include <chrono>

#include "loader/broker/processes.h"

namespace pangolin::broker {

struct ServerOptions {
    // A socket that listens (SOCK_SEQPACKET, O_NONBLOCK); not owned.
    int listener = -1;
    // The user that is answered; all others are hung up on.
    uid_t user = 0;
    // Without a client for so long it ends: the next one starts it again.
    std::chrono::milliseconds idle = std::chrono::minutes(1);
};

// Answers until it was idle for long enough, or until the listener fails, which is -1 with errno. A client
// that sends what is no request, or does not take its answers, is hung up on.
int serve(const ServerOptions& options, const Processes& processes);

}  // namespace pangolin::broker
