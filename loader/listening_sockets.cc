#include "loader/listening_sockets.h"

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "loader/base/number.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

// The next word of `line`, which loses it; empty at its end.
std::string_view take_word(std::string_view& line) {
    constexpr std::string_view blanks = " \t";
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    const std::string_view word = line.substr(0, line.find_first_of(blanks));
    line.remove_prefix(word.size());
    return word;
}

std::optional<std::uint16_t> port_of(std::string_view address) {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string_view::npos)
        return std::nullopt;
    const std::string_view digits = address.substr(colon + 1);
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port, 16);
    if (error != std::errc{} || end != digits.data() + digits.size())
        return std::nullopt;
    return port;
}

// "sl local:port remote:port state queues timer retransmits uid timeout inode ...", addresses and state in
// hexadecimal (the kernel's net/ipv4/tcp_ipv4.c, get_openreq4() and its neighbours).
// False when it is not of a listening socket.
bool add_line(std::string_view line, ListeningSockets& sockets) {
    enum : std::uint8_t { local = 1, state = 3, inode = 9, words_read };
    std::array<std::string_view, words_read> words;
    for (std::string_view& word : words)
        word = take_word(line);
    constexpr std::string_view listening = "0A";
    if (words[state] != listening)
        return false;
    const auto port = port_of(words[local]);
    const auto socket = parse_number<ino_t>(words[inode]);
    if (port && socket)
        sockets[*port].insert(*socket);
    return true;
}

}  // namespace

void add_listening_sockets(std::string_view table, ListeningSockets& sockets) {
    while (!table.empty()) {
        const std::size_t end = std::min(table.find('\n'), table.size());
        add_line(table.substr(0, end), sockets);
        table.remove_prefix(std::min(end + 1, table.size()));
    }
}

ListeningSockets listening_sockets(pid_t pid) {
    ListeningSockets sockets;
    for (const char* name : {"net/tcp", "net/tcp6"}) {
        // Behind the heading listening sockets come first. Any number of connections may follow.
        std::ifstream file(process_path(pid, name));
        std::string line;
        std::getline(file, line);
        while (std::getline(file, line) && add_line(line, sockets)) {
        }
    }
    return sockets;
}

}  // namespace pangolin
