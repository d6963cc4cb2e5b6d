// A PostgreSQL server of one test.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/scratch_folder.h"

namespace pangolin {

// Debian's PostgreSQL with an empty cluster in a temporary folder, run by an unprivileged user, reachable
// through a socket in that folder alone, and removed with it. It dies with the test.
class PostgresServer {
  public:
    // None when PostgreSQL is not installed. Anything else that goes wrong is an exception. With a port it
    // listens on 127.0.0.1 as well, to everybody.
    static std::unique_ptr<PostgresServer> start(std::uint16_t port = 0);
    PostgresServer(const PostgresServer&) = delete;
    PostgresServer& operator=(const PostgresServer&) = delete;
    ~PostgresServer();

    // Of the superuser, or of `user` with `password`.
    std::string connection_string(const std::string& database = "postgres",
                                  const std::string& user = "postgres",
                                  const std::string& password = "") const;
    // Runs statements as the superuser.
    void must(const std::string& sql, const std::string& database = "postgres") const;
    // Ends the server, as for an upgrade; run() starts it again.
    void stop();
    void run();
    // Over TCP it offers TLS from now on, with a certificate of its own.
    void encrypt();
    // Stops all its processes where they are, or lets them go on.
    void freeze(bool frozen) const;

  private:
    PostgresServer(std::string programs, std::uint16_t port);
    void make_cluster();
    pid_t start_program(const std::vector<std::string>& arguments) const;

    std::string programs_;
    std::uint16_t port_;
    ScratchFolder folder_;
    uid_t user_;
    gid_t group_;
    pid_t pid_ = -1;
};

}  // namespace pangolin
