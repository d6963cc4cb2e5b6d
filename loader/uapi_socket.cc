#include "loader/uapi_socket.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cerrno>
#include <string_view>

namespace pangolin {
namespace {

// Where the root folder ends in "/proc/42/root/run/wireguard/wg0.sock"; 0 for a path of our own.
std::size_t root_length(std::string_view path) {
    constexpr std::string_view prefix = "/proc/";
    constexpr std::string_view marker = "/root/";
    if (!path.starts_with(prefix))
        return 0;
    const auto pid_end = path.find('/', prefix.size());
    if (pid_end == std::string_view::npos || !path.substr(pid_end).starts_with(marker))
        return 0;
    return pid_end + marker.size();
}

UniqueFd open_below(const std::string& root, const std::string& path) {
    const UniqueFd folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return {};
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(static_cast<int>(syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof how)));
}

}  // namespace

Result<UniqueFd> connect_uapi_socket(const std::string& path) {
    const std::size_t root = root_length(path);
    const UniqueFd file = open_below(root == 0 ? "/" : path.substr(0, root), path.substr(root));
    struct stat status{};
    if (!file || fstat(file.get(), &status) != 0)
        return system_failure(errno, path,
                              errno == EACCES ? "Run as root, or grant CAP_DAC_READ_SEARCH." : "");
    if (!S_ISSOCK(status.st_mode))
        return failure(path + " is not a socket", {}, ENOTSOCK);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket)
        return system_failure(errno, "cannot open a UNIX socket");
    // By descriptor: the socket that was checked is the one that is connected to, however long its path.
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ("/proc/self/fd/" + std::to_string(file.get())).copy(address.sun_path, sizeof address.sun_path - 1);
    if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return system_failure(errno, "cannot connect to " + path, errno == EACCES ? "Run as root." : "");
    return socket;
}

pid_t uapi_socket_owner(const UniqueFd& socket) {
    ucred owner{};
    socklen_t size = sizeof owner;
    return getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &owner, &size) == 0 ? owner.pid : 0;
}

}  // namespace pangolin
