#include "loader/uapi_socket.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <utility>

#include "loader/netlink.h"
#include "loader/process_access.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

UniqueFd open_below(const UniqueFd& folder, const std::string& path) {
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(static_cast<int>(syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof how)));
}

// "/proc/42/root/run/wireguard/wg0.sock", or a path of our own.
UniqueFd open_socket_file(const std::string& path) {
    constexpr std::string_view root = "root/";
    const auto link = parse_process_link(path);
    if (!link || !link->name.starts_with(root))
        return open_below(UniqueFd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), path);
    const auto folder = open_root_folder_of(link->pid);
    if (folder)
        return open_below(*folder, link->name.substr(root.size()));
    errno = folder.error().code;
    return {};
}

// Whether a socket of the calling thread's namespace listens at a file of that inode.
Result<bool> listens_at(ino_t inode) {
    auto socket = NetlinkSocket::open(NETLINK_SOCK_DIAG);
    if (!socket)
        return std::unexpected(std::move(socket.error()));
    std::array<char, 128> buffer{};
    nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
    request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    auto* asked = static_cast<unix_diag_req*>(mnl_nlmsg_put_extra_header(request, sizeof(unix_diag_req)));
    asked->sdiag_family = AF_UNIX;
    asked->udiag_states = 1U << TCP_LISTEN;
    asked->udiag_show = UDIAG_SHOW_VFS;
    bool found = false;
    auto done = socket->exchange(request, [&](const nlmsghdr& message) -> Result<void> {
        for (const NetlinkAttribute& attribute : NetlinkAttributes(message, sizeof(unix_diag_msg))) {
            // The kernel has 32 bits of it there.
            const auto file = attribute.as<unix_diag_vfs>();
            found |= attribute.type == UNIX_DIAG_VFS && file &&
                     file->udiag_vfs_ino == static_cast<std::uint32_t>(inode);
        }
        return {};
    });
    if (!done)
        return std::unexpected(std::move(done.error()));
    return found;
}

}  // namespace

Result<UniqueFd> connect_uapi_socket(const std::string& path) {
    const UniqueFd file = open_socket_file(path);
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

bool listens_in(const NetworkNamespace& netns, const std::string& path) {
    const UniqueFd file = open_socket_file(path);
    struct stat status{};
    if (!file || fstat(file.get(), &status) != 0)
        return false;
    bool found = false;
    const auto looked = run_in_network_namespace(netns, [&]() -> Result<void> {
        auto listens = listens_at(status.st_ino);
        if (!listens)
            return std::unexpected(std::move(listens.error()));
        found = *listens;
        return {};
    });
    return looked && found;
}

}  // namespace pangolin
