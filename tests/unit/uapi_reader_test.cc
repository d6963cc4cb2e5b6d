// The UAPI protocol: what an answer means, and how a reader behaves toward implementations of all manners.
#include "userspace/wireguard/uapi_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "loader/base/unique_fd.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string key_a(64, 'a');
const std::string key_b = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";

std::string answer_with(const std::string& lines) {
    return "public_key=" + key_b + "\n" + lines + "errno=0\n\n";
}

TEST(ParseUapi, ReadsDeviceAndPeers) {
    WireGuardDevice device;
    const auto done =
        parse_uapi("private_key=" + key_a + "\nlisten_port=12912\nfwmark=3\npublic_key=" + key_b +
                       "\npreshared_key=" + key_a +
                       "\nprotocol_version=1\nendpoint=[2001:db8::1]:51820\n"
                       "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\n"
                       "tx_bytes=38333\nrx_bytes=18446744073709551615\n"
                       "persistent_keepalive_interval=111\n"
                       "allowed_ip=192.168.4.4/32\nallowed_ip=fd00::/64\npublic_key=" +
                       key_a + "\nerrno=0\n\n",
                   device);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(device.listen_port, 12912);
    ASSERT_EQ(device.peers.size(), 2U);
    const WireGuardPeer& peer = device.peers[0];
    EXPECT_EQ(peer.public_key, *WireGuardKey::from_hex(key_b));
    EXPECT_EQ(peer.last_handshake_ns, 1'700'000'000'000'000'005);
    EXPECT_EQ(peer.transmit_bytes, 38333U);
    EXPECT_EQ(peer.receive_bytes, UINT64_MAX);
    EXPECT_EQ(peer.endpoint.value().to_string(), "[2001:db8::1]:51820");
    EXPECT_EQ(peer.allowed_ips,
              (std::vector{*IpPrefix::parse("192.168.4.4"), *IpPrefix::parse("fd00::/64")}));
    EXPECT_TRUE(device.peers[1].allowed_ips.empty());
    EXPECT_EQ(device.peers[1].last_handshake_ns, 0);
}

TEST(ParseUapi, DerivesThePublicKey) {
    // As `wg pubkey` does.
    WireGuardDevice device;
    ASSERT_TRUE(parse_uapi("private_key=" + std::string(64, '4') + "\nerrno=0\n\n", device));
    EXPECT_EQ(device.public_key.to_string(), "/y7kVgHsG2cxDHeQQEWFrmlzMe7hwfjPJBlzHB//Pms=");
    ASSERT_TRUE(parse_uapi("private_key=" + std::string(64, '0') + "\nerrno=0\n\n", device));
    EXPECT_EQ(device.public_key, WireGuardKey{});
}

TEST(ParseUapi, ReplacesWhatWasThere) {
    WireGuardDevice device;
    ASSERT_TRUE(
        parse_uapi("listen_port=1\n" + answer_with("rx_bytes=7\nendpoint=192.0.2.1:1\nallowed_ip=::/0\n"
                                                   "last_handshake_time_sec=9\npublic_key=" +
                                                   key_a + "\n"),
                   device));
    ASSERT_TRUE(parse_uapi(answer_with(""), device));
    EXPECT_EQ(device.listen_port, 0);
    ASSERT_EQ(device.peers.size(), 1U);
    EXPECT_EQ(device.peers[0].receive_bytes, 0U);
    EXPECT_EQ(device.peers[0].last_handshake_ns, 0);
    EXPECT_FALSE(device.peers[0].endpoint);
    EXPECT_TRUE(device.peers[0].allowed_ips.empty());
}

TEST(ParseUapi, SkipsUnknownKeysAndTakesAnyOrder) {
    WireGuardDevice device;
    const auto done = parse_uapi(
        "jc=4\n" + answer_with("last_handshake_time_nsec=5\nnew_key=x=y\nlast_handshake_time_sec=1\n"),
        device);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(device.peers[0].last_handshake_ns, 1'000'000'005);
}

struct BadAnswer {
    const char* description;
    std::string answer;
    std::string error;
};

class ParseUapiRefuses : public testing::TestWithParam<BadAnswer> {};

TEST_P(ParseUapiRefuses, WithAClearError) {
    WireGuardDevice device;
    const auto done = parse_uapi(GetParam().answer, device);
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().what, HasSubstr(GetParam().error));
    EXPECT_THAT(done.error().message(), Not(HasSubstr(key_a)));
}

INSTANTIATE_TEST_SUITE_P(
    Answers, ParseUapiRefuses,
    testing::Values(
        BadAnswer{"nothing", "", "ends early"}, BadAnswer{"cut", "listen_port=1\n", "ends early"},
        BadAnswer{"cut in errno", answer_with("").substr(0, answer_with("").size() - 3),
                  "bad value of 'errno'"},
        BadAnswer{"no equals sign", "hello\nerrno=0\n\n",
                  "line 1 of WireGuard's UAPI answer is not key=value"},
        BadAnswer{"odd private key", "private_key=" + key_a + "a\nerrno=0\n\n", "'private_key'"},
        BadAnswer{"port too large", "listen_port=65536\nerrno=0\n\n", "'listen_port'"},
        BadAnswer{"short public key", "public_key=aa\nerrno=0\n\n", "'public_key'"},
        BadAnswer{"negative bytes", answer_with("rx_bytes=-1\n"), "line 2"},
        BadAnswer{"bytes beyond 64 bits", answer_with("tx_bytes=18446744073709551616\n"), "'tx_bytes'"},
        BadAnswer{"handshake before 1970", answer_with("last_handshake_time_sec=-1\n"),
                  "'last_handshake_time_sec'"},
        BadAnswer{"handshake beyond time", answer_with("last_handshake_time_sec=9223372036854775807\n"),
                  "_sec'"},
        BadAnswer{"a second of nanoseconds", answer_with("last_handshake_time_nsec=1000000000\n"), "_nsec'"},
        BadAnswer{"prefix too long", answer_with("allowed_ip=10.0.0.0/33\n"), "'allowed_ip'"},
        BadAnswer{"refused", "errno=-13\n\n", "Permission denied"},
        BadAnswer{"errno out of range", "errno=-2147483648\n\n", "'errno'"}),
    [](const auto& instance) {
        std::string name = instance.param.description;
        std::erase_if(name, [](char c) { return !isalnum(static_cast<unsigned char>(c)); });
        return name;
    });

TEST(ParseUapi, SurvivesEveryCut) {
    const std::string whole = answer_with("endpoint=192.0.2.1:1\nallowed_ip=10.0.0.0/8\nrx_bytes=12\n");
    WireGuardDevice device;
    // The last cut only lacks the empty line that ends an answer.
    for (std::size_t length = 0; length < whole.size() - 2; ++length)
        EXPECT_FALSE(parse_uapi(std::string(whole, 0, length), device)) << length;
}

// An implementation that treats its clients as `serve` says, one after the other.
class FakeImplementation {
  public:
    explicit FakeImplementation(std::function<void(int)> serve) : serve_(std::move(serve)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path().copy(address.sun_path, sizeof address.sun_path - 1);
        listener_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(listen(listener_.get(), 8), 0);
        thread_ = std::thread([this] {
            while (const UniqueFd client{accept(listener_.get(), nullptr, nullptr)})
                serve_(client.get());
        });
    }
    FakeImplementation(const FakeImplementation&) = delete;
    FakeImplementation& operator=(const FakeImplementation&) = delete;
    ~FakeImplementation() { stop(); }

    std::string path() const { return folder_.path("wg0.sock"); }
    // Leaves the socket's file behind.
    void stop() {
        if (!thread_.joinable())
            return;
        shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
        listener_.reset();
    }
    Result<void> read(WireGuardDevice& device) const {
        WireGuardInterface interface;
        interface.name = "wg0";
        interface.netns.name = "here";
        interface.implementation = WireGuardImplementation::userspace;
        interface.uapi_socket = path();
        return open_wireguard_reader(interface).value()->read(device);
    }

  private:
    ScratchFolder folder_;
    std::function<void(int)> serve_;
    UniqueFd listener_;
    std::thread thread_;
};

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (count <= 0)
            return;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
}

std::string receive_request(int fd) {
    std::string request(7, '\0');
    request.resize(static_cast<std::size_t>(std::max<ssize_t>(recv(fd, request.data(), 7, MSG_WAITALL), 0)));
    return request;
}

void wait_for_hangup(int fd) {
    char byte = 0;
    while (recv(fd, &byte, 1, 0) > 0)
        continue;
}

TEST(UapiReader, ReadsFromAnImplementationThatKeepsTheConnection) {
    std::string request;
    const FakeImplementation implementation([&](int fd) {
        request = receive_request(fd);
        write_all(fd, answer_with("rx_bytes=5\n").substr(0, 30));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        write_all(fd, answer_with("rx_bytes=5\n").substr(30));
        wait_for_hangup(fd);
    });
    WireGuardDevice device;
    const auto done = implementation.read(device);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(request, "get=1\n\n");
    EXPECT_EQ(device.peers.at(0).receive_bytes, 5U);
}

TEST(UapiReader, ReadsALongAnswerFromOneThatCloses) {
    std::string peers;
    for (int i = 0; i < 5000; ++i)
        peers += "public_key=" + key_b + "\nallowed_ip=10.0.0.1/32\nendpoint=192.0.2.1:1\n";
    const FakeImplementation implementation([&](int fd) {
        receive_request(fd);
        // No empty line: the end of the stream is the end.
        write_all(fd, peers + "errno=0\n");
    });
    WireGuardDevice device;
    const auto done = implementation.read(device);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(device.peers.size(), 5000U);
}

TEST(UapiReader, SaysThatTheInterfaceIsGone) {
    FakeImplementation implementation([](int) {});
    implementation.stop();
    WireGuardDevice device;
    const auto stale = implementation.read(device);
    ASSERT_FALSE(stale);
    EXPECT_EQ(stale.error().code, ENODEV);
    std::filesystem::remove(implementation.path());
    const auto missing = implementation.read(device);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ENODEV);
    EXPECT_THAT(missing.error().what, HasSubstr("wg0 in here"));
}

TEST(UapiReader, ReportsACutAnswer) {
    const FakeImplementation implementation([](int fd) {
        receive_request(fd);
        write_all(fd, answer_with("").substr(0, 40));
    });
    WireGuardDevice device;
    const auto done = implementation.read(device);
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().code, ENODEV);
}

TEST(UapiReader, GivesUpOnOneThatDripsOrSleeps) {
    const FakeImplementation implementation([](int fd) {
        for (int i = 0; i < 40; ++i) {
            if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
                return;
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    });
    WireGuardDevice device;
    const auto begin = std::chrono::steady_clock::now();
    const auto done = implementation.read(device);
    const auto taken = std::chrono::steady_clock::now() - begin;
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ETIMEDOUT);
    EXPECT_LT(taken, std::chrono::milliseconds(2800));
}

}  // namespace
}  // namespace pangolin
