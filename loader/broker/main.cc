// pangolin_process_broker: hands namespaces and root folders of processes to the exporter, which then needs
// no CAP_SYS_PTRACE. Started by its socket unit (sd_listen_fds(3)).

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "loader/broker/confinement.h"
#include "loader/broker/processes.h"
#include "loader/broker/server.h"

namespace {

using namespace pangolin;

// SD_LISTEN_FDS_START
constexpr int first_inherited = 3;

// `code` is an errno, or 0.
int fail(int code, const char* what, const char* hint) {
    const char* const reason = code == 0 ? "" : ::strerrordesc_np(code);
    ::dprintf(STDERR_FILENO, "pangolin_process_broker: %s%s%s (HINT: %s)\n", what, *reason ? ": " : "",
              reason, hint);
    return EXIT_FAILURE;
}

bool is_number(const char* name, long expected) {
    const char* const text = std::getenv(name);
    if (text == nullptr)
        return false;
    const std::string_view digits = text;
    long number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return error == std::errc{} && end == digits.data() + digits.size() && number == expected;
}

int socket_option(int socket, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool is_listening_socket(int socket) {
    return socket_option(socket, SO_DOMAIN) == AF_UNIX && socket_option(socket, SO_TYPE) == SOCK_SEQPACKET &&
           socket_option(socket, SO_ACCEPTCONN) == 1;
}

// Whose the socket's file is: that is whom the socket was made for.
bool owner_of(int socket, uid_t& owner) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    struct stat file{};
    // The name of the longest path is not terminated.
    char path[sizeof address.sun_path + 1]{};
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        return false;
    std::memcpy(path, address.sun_path, sizeof address.sun_path);
    if (::lstat(path, &file) != 0)
        return false;
    errno = ENOTSOCK;
    owner = file.st_uid;
    return S_ISSOCK(file.st_mode);
}

}  // namespace

int main() {
    constexpr int listener = first_inherited;
    if (!is_number("LISTEN_PID", ::getpid()) || !is_number("LISTEN_FDS", 1) || !is_listening_socket(listener))
        return fail(0, "there is no socket to listen at",
                    "Start pangolin_process_broker.socket, which starts this.");
    broker::ServerOptions options{.listener = listener};
    if (!owner_of(listener, options.user) || ::fcntl(listener, F_SETFL, O_NONBLOCK) != 0)
        return fail(errno, "cannot look at the socket", "Restart pangolin_process_broker.socket.");
    UniqueFd folder(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return fail(errno, "cannot open /proc", "Is it mounted?");
    const broker::Processes processes(std::move(folder));
    if (const char* const failed = broker::confine())
        return fail(errno, failed, "Start it as pangolin_process_broker.service does.");
    if (broker::serve(options, processes) != 0)
        return fail(errno, "cannot wait for clients", "Restart pangolin_process_broker.socket.");
    return EXIT_SUCCESS;
}
