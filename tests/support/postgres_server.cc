#include "tests/support/postgres_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

namespace pangolin {
namespace {

// Debian keeps each major version's programs in a folder of its own; any will do.
std::string find_programs() {
    std::error_code error;
    for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", error))
        if (std::filesystem::exists(version.path() / "bin/postgres"))
            return (version.path() / "bin").string();
    return "";
}

}  // namespace

std::unique_ptr<PostgresServer> PostgresServer::start(std::uint16_t port) {
    const std::string programs = find_programs();
    if (programs.empty())
        return nullptr;
    std::unique_ptr<PostgresServer> server(new PostgresServer(programs, port));
    server->make_cluster();
    server->run();
    return server;
}

PostgresServer::PostgresServer(std::string programs, std::uint16_t port)
    : programs_(std::move(programs)), port_(port), user_(geteuid()), group_(getegid()) {
    if (user_ != 0)
        return;
    // PostgreSQL refuses to run as root.
    const passwd* other = getpwnam("postgres");
    if (other == nullptr)
        other = getpwnam("nobody");
    if (other == nullptr)
        throw std::runtime_error("no unprivileged user to run PostgreSQL as");
    user_ = other->pw_uid;
    group_ = other->pw_gid;
    if (chown(folder_.path("").c_str(), user_, group_) != 0)
        throw std::runtime_error("chown");
}

PostgresServer::~PostgresServer() {
    stop();
}

pid_t PostgresServer::start_program(const std::vector<std::string>& arguments) const {
    const std::string program = programs_ + "/" + arguments[0];
    const std::string log = folder_.path("log");
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const pid_t child = fork();
    if (child != 0)
        return child;
    if (getuid() == 0 && (setgid(group_) != 0 || setuid(user_) != 0))
        _exit(126);
    // After the change of user, which would undo it.
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (chdir("/") != 0 || out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(126);
    execv(program.c_str(), argv.data());
    _exit(127);
}

void PostgresServer::make_cluster() {
    const pid_t child = start_program({"initdb", "--pgdata=" + folder_.path("data"), "--username=postgres",
                                       "--auth-local=trust", "--no-sync", "--encoding=UTF8", "--locale=C"});
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0)
        throw std::runtime_error(fmt::format("initdb ended with status {}", status));
    // The user "secret" needs its password, the others none.
    std::ofstream(folder_.path("data/pg_hba.conf"), std::ios::trunc)
        << "local all secret scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n";
}

void PostgresServer::run() {
    pid_ = start_program({"postgres", "-D", folder_.path("data"), "-c",
                          port_ == 0 ? "listen_addresses=" : "listen_addresses=127.0.0.1", "-c",
                          "port=" + std::to_string(port_ == 0 ? 5432 : port_), "-c",
                          "unix_socket_directories=" + folder_.path(""), "-c", "fsync=off", "-c",
                          "shared_buffers=16MB", "-c", "max_connections=20"});
    const std::string connection = connection_string();
    for (int tries = 0; tries < 600; ++tries) {
        if (PQping(connection.c_str()) == PQPING_OK)
            return;
        int status = 0;
        if (waitpid(pid_, &status, WNOHANG) == pid_) {
            pid_ = -1;
            throw std::runtime_error("PostgreSQL ended at its start");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    throw std::runtime_error("PostgreSQL does not answer");
}

void PostgresServer::stop() {
    if (pid_ <= 0)
        return;
    kill(pid_, SIGQUIT);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
}

void PostgresServer::encrypt() {
    const std::string data = folder_.path("data");
    const std::string command = fmt::format(
        "cd '{0}' && openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -days 2 "
        "-subj /CN=x "
        "2>/dev/null && chmod 600 server.key && chown {1}:{2} server.key server.crt",
        data, user_, group_);
    if (std::system(command.c_str()) != 0)
        throw std::runtime_error("openssl made no certificate");
    must("ALTER SYSTEM SET ssl = on");
    must("SELECT pg_reload_conf()");
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
}

void PostgresServer::freeze(bool frozen) const {
    // Its children: of all processes only those have it as their parent.
    std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", pid_));
    for (pid_t child = 0; children >> child;)
        kill(child, frozen ? SIGSTOP : SIGCONT);
    kill(pid_, frozen ? SIGSTOP : SIGCONT);
}

std::string PostgresServer::connection_string(const std::string& database, const std::string& user,
                                              const std::string& password) const {
    return fmt::format("host={} port={} dbname={} user={}{}", folder_.path(""), port_ == 0 ? 5432 : port_,
                       database, user, password.empty() ? "" : " password=" + password);
}

void PostgresServer::must(const std::string& sql, const std::string& database) const {
    const std::unique_ptr<PGconn, void (*)(PGconn*)> connection(
        PQconnectdb(connection_string(database).c_str()), PQfinish);
    PQsetNoticeProcessor(connection.get(), [](void*, const char*) {}, nullptr);
    const std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(connection.get(), sql.c_str()),
                                                                PQclear);
    if (const auto status = PQresultStatus(result.get());
        status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY)
        throw std::runtime_error(std::string(PQerrorMessage(connection.get())) + " in: " + sql);
}

}  // namespace pangolin
