#include "tests/kernel/module_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <stdexcept>

#include "loader/network_namespace.h"

namespace pangolin::test {
namespace {

constexpr std::uint16_t listen_port = 51820;
constexpr std::uint16_t socket_port = 40000;
constexpr std::size_t initiation_length = 148;
constexpr std::size_t macs_length = 32;
constexpr std::size_t mac_length = 16;

std::string hex_of(std::span<const std::uint8_t> bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", byte);
        text += digits;
    }
    return text;
}

Message bytes_of(const std::string& hex) {
    Message bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    return bytes;
}

std::string underlay_address(int number) {
    return "10.211.0." + std::to_string(number);
}

sockaddr_in address_of(int number, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, underlay_address(number).c_str(), &address.sin_addr);
    return address;
}

WireGuardInterface find_interface(const std::string& netns) {
    const auto namespaces = find_network_namespaces(netns);
    if (!namespaces)
        throw std::runtime_error(namespaces.error().message());
    const auto interfaces = find_wireguard_interfaces(*namespaces, {"pgxwg0"});
    if (!interfaces || interfaces->size() != 1)
        throw std::runtime_error("pgxwg0 is not found in " + netns);
    return interfaces->front();
}

UniqueFd open_socket(const NetworkNamespace& netns) {
    UniqueFd fd;
    const auto opened = run_in_network_namespace(netns, [&]() -> Result<void> {
        fd = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        // Room for the replies to a flood.
        const int size = 16 << 20;
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
        const sockaddr_in address = address_of(2, socket_port);
        if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            return system_failure(errno, "cannot bind the test's socket");
        return {};
    });
    if (!opened)
        throw std::runtime_error(opened.error().message());
    return fd;
}

}  // namespace

std::string run_command(const std::string& command) {
    std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
    if (pipe == nullptr)
        throw std::runtime_error("cannot run " + command);
    std::string output;
    std::array<char, 4096> buffer{};
    std::size_t length = 0;
    while ((length = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0)
        output.append(buffer.data(), length);
    if (const int status = ::pclose(pipe); status != 0)
        throw std::runtime_error(command + ": " + output);
    while (output.ends_with('\n'))
        output.pop_back();
    return output;
}

WireGuardKeys WireGuardKeys::generate() {
    WireGuardKeys keys;
    keys.secret = run_command("wg genkey");
    keys.public_key = run_command("echo " + keys.secret + " | wg pubkey");
    const Message bytes =
        bytes_of(run_command("echo " + keys.public_key + " | base64 -d | od -An -v -tx1 | tr -d ' \\n'"));
    if (bytes.size() != keys.bytes.size())
        throw std::runtime_error("not a key: " + keys.public_key);
    std::ranges::copy(bytes, keys.bytes.begin());
    return keys;
}

std::string WireGuardSide::run(const std::string& command) const {
    return run_command("ip netns exec " + netns + " " + command);
}

void WireGuardSide::set(const std::string& arguments) const {
    run("wg set pgxwg0 " + arguments);
}

void WireGuardSide::set_secret(const std::string& secret) const {
    run("sh -c 'echo " + secret + " | wg set pgxwg0 private-key /dev/stdin'");
}

std::uint64_t WireGuardSide::tx_dropped() const {
    return std::stoull(run("cat /sys/class/net/pgxwg0/statistics/tx_dropped"));
}

ModuleWorld::ModuleWorld() {
    host_ = {.number = 1,
             .netns = "pangolin_exporter-module-host",
             .keys = WireGuardKeys::generate(),
             .interface = {}};
    site_ = {.number = 2,
             .netns = "pangolin_exporter-module-site",
             .keys = WireGuardKeys::generate(),
             .interface = {}};
    tear_down();
    for (const WireGuardSide* side : {&host_, &site_}) {
        run_command("ip netns add " + side->netns);
        run_command("ip -n " + side->netns + " link set lo up");
    }
    run_command("ip -n " + host_.netns + " link add pgx-under type veth peer name pgx-under netns " +
                site_.netns);
    for (WireGuardSide* side : {&host_, &site_}) {
        const std::string ip = "ip -n " + side->netns + " ";
        run_command(ip + "addr add " + underlay_address(side->number) + "/24 dev pgx-under");
        run_command(ip + "link set pgx-under up");
        run_command(ip + "link add pgxwg0 type wireguard");
        side->set_secret(side->keys.secret);
        side->set("listen-port " + std::to_string(listen_port));
        run_command(ip + "addr add 100.89." + std::to_string(side->number) + ".1/8 dev pgxwg0");
        run_command(ip + "link set pgxwg0 up");
        side->interface = find_interface(side->netns);
    }
    socket_ = open_socket(site_.interface.netns);
}

ModuleWorld::~ModuleWorld() {
    tear_down();
}

void ModuleWorld::tear_down() const {
    for (const WireGuardSide* side : {&host_, &site_}) {
        // One that does not exist is no trouble.
        run_command("ip netns del " + side->netns + " 2>/dev/null || true");
    }
}

void ModuleWorld::connect(const WireGuardSide& from, const WireGuardSide& to, bool begin) const {
    std::string arguments =
        "peer " + to.keys.public_key + " allowed-ips 100.89." + std::to_string(to.number) + ".0/24";
    if (begin)
        arguments += " persistent-keepalive 25 endpoint " + underlay_address(to.number) + ":" +
                     std::to_string(listen_port);
    from.set(arguments);
}

void ModuleWorld::disconnect(const WireGuardSide& from, const WireGuardSide& to) {
    from.set("peer " + to.keys.public_key + " remove");
}

Message ModuleWorld::initiation_of(const WireGuardKeys& keys) const {
    drain(0);
    site_.set_secret(keys.secret);
    site_.set("peer " + host_.keys.public_key +
              " allowed-ips 100.89.1.0/24 persistent-keepalive 25 endpoint " + underlay_address(2) + ":" +
              std::to_string(socket_port));
    const auto message = receive(20'000);
    disconnect(site_, host_);
    site_.set_secret(site_.keys.secret);
    if (!message || message->size() != initiation_length)
        throw std::runtime_error("the site made no initiation");
    drain(0);
    return *message;
}

Message ModuleWorld::with_mac1(Message message, const WireGuardSide& side) {
    const Message mac = bytes_of(run_command(
        "python3 -c 'import base64, hashlib, sys; key = hashlib.blake2s(b\"mac1----\" + "
        "base64.b64decode(sys.argv[1])).digest(); "
        "print(hashlib.blake2s(bytes.fromhex(sys.argv[2]), key=key, digest_size=16).hexdigest())' " +
        side.keys.public_key + " " + hex_of(std::span(message).first(message.size() - macs_length))));
    std::ranges::copy(std::span(mac).first(mac_length), message.end() - macs_length);
    return message;
}

void ModuleWorld::send(std::span<const std::uint8_t> message, const WireGuardSide& to) const {
    const sockaddr_in address = address_of(to.number, listen_port);
    if (::sendto(socket_.get(), message.data(), message.size(), 0,
                 reinterpret_cast<const sockaddr*>(&address),
                 sizeof address) != static_cast<ssize_t>(message.size()))
        throw std::runtime_error("cannot send from the test's socket");
}

std::optional<Message> ModuleWorld::receive(int wait_ms) const {
    pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, wait_ms) <= 0)
        return {};
    Message message(2048);
    const ssize_t length = ::recv(socket_.get(), message.data(), message.size(), 0);
    if (length < 0)
        return {};
    message.resize(static_cast<std::size_t>(length));
    return message;
}

std::vector<std::size_t> ModuleWorld::drain(int quiet_ms) const {
    std::vector<std::size_t> lengths;
    while (const auto message = receive(quiet_ms))
        lengths.push_back(message->size());
    return lengths;
}

}  // namespace pangolin::test
