// Handshakes and lost packets of the kernel's WireGuard module, counted inside it. Needs that module: run by
// ctest in scripts/vm.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <numeric>
#include <thread>

#include "loader/module_probe.h"
#include "loader/preflight.h"
#include "tests/kernel/module_world.h"

namespace pangolin::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Emulated machines are slow.
constexpr seconds patience{60};
constexpr PublicKey nobody{};

PublicKey key_of(const handshake_identity& identity) {
    PublicKey key{};
    if (identity.kind == HANDSHAKE_PUBLIC_KEY)
        std::ranges::copy(identity.public_key, key.begin());
    return key;
}

// Everything that a probe has told.
class Observer {
  public:
    explicit Observer(const WireGuardSide& side) {
        auto probe = ModuleProbe::open(side.interface);
        if (!probe)
            throw std::runtime_error(probe.error().message());
        probe_ = std::move(*probe);
    }

    void look() {
        for (const handshake& each : probe_->take_handshakes())
            handshakes_.push_back(each);
        for (const HandshakeCount& each : probe_->take_counts())
            counts_[{each.result, key_of(each.identity)}] += each.count;
        for (const QueueDrops& each : probe_->take_queue_drops())
            drops_[each.public_key] += each.packets;
    }
    bool look_until(const std::function<bool()>& condition) {
        const auto end = std::chrono::steady_clock::now() + patience;
        do {
            look();
            if (condition())
                return true;
            std::this_thread::sleep_for(milliseconds(20));
        } while (std::chrono::steady_clock::now() < end);
        return false;
    }

    const std::vector<handshake>& handshakes() const { return handshakes_; }
    std::size_t ended(handshake_result result) const {
        return static_cast<std::size_t>(
            std::ranges::count(handshakes_, std::uint32_t{result}, &handshake::result));
    }
    std::uint64_t count(handshake_result result, const PublicKey& key = nobody) const {
        const auto found = counts_.find({result, key});
        return found == counts_.end() ? 0 : found->second;
    }
    // Outcomes without an event.
    std::uint64_t all_counts() const {
        return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0},
                               [](std::uint64_t sum, const auto& each) { return sum + each.second; });
    }
    std::uint64_t drops(const PublicKey& key) const {
        const auto found = drops_.find(key);
        return found == drops_.end() ? 0 : found->second;
    }
    ModuleProbe& probe() { return *probe_; }

  private:
    std::unique_ptr<ModuleProbe> probe_;
    std::vector<handshake> handshakes_;
    std::map<std::pair<handshake_result, PublicKey>, std::uint64_t> counts_;
    std::map<PublicKey, std::uint64_t> drops_;
};

class ModuleProbeTest : public testing::Test {
  protected:
    ModuleWorld world_;

    void expect_success(const handshake& ended, const WireGuardSide& peer, handshake_role role) {
        EXPECT_EQ(ended.result, HANDSHAKE_SUCCESS);
        EXPECT_EQ(ended.role, role);
        EXPECT_EQ(key_of(ended.identity), peer.keys.bytes);
        EXPECT_GT(ended.end_ns, ended.begin_ns);
        EXPECT_LT(ended.end_ns - ended.begin_ns, 3'000'000'000) << "nanoseconds";
    }
};

TEST_F(ModuleProbeTest, CountsHandshakesOfBothRolesOnceEach) {
    Observer host(world_.host());
    Observer site(world_.site());
    // The same number in two namespaces.
    ASSERT_EQ(world_.host().interface.index, world_.site().interface.index);
    EXPECT_EQ(host.probe().source(), HandshakeSource::module);
    EXPECT_GT(host.probe().attachments(), 8U);
    world_.connect(world_.host(), world_.site(), false);
    constexpr std::size_t rounds = 8;
    for (std::size_t round = 0; round < rounds; ++round) {
        ModuleWorld::disconnect(world_.site(), world_.host());
        world_.connect(world_.site(), world_.host(), true);
        ASSERT_TRUE(host.look_until([&] { return host.handshakes().size() > round; })) << round;
    }
    site.look();
    ASSERT_EQ(host.handshakes().size(), rounds);
    ASSERT_EQ(site.handshakes().size(), rounds);
    for (std::size_t round = 0; round < rounds; ++round) {
        expect_success(host.handshakes()[round], world_.site(), HANDSHAKE_RESPONDER);
        expect_success(site.handshakes()[round], world_.host(), HANDSHAKE_INITIATOR);
    }
    EXPECT_EQ(host.all_counts() + site.all_counts(), 0U);
    EXPECT_EQ(host.probe().losses(), HandshakeLosses{});
}

TEST_F(ModuleProbeTest, TellsApartWhyAnInitiationIsRefused) {
    const WireGuardKeys stranger = WireGuardKeys::generate();
    const Message unknown = world_.initiation_of(stranger);
    const Message genuine = world_.initiation_of(world_.site().keys);
    Message corrupt_mac = genuine;
    corrupt_mac[genuine.size() - 32] ^= 1;
    // The encrypted public key begins at byte 40 (WireGuard paper, section 5.4.2).
    Message corrupt_key = genuine;
    corrupt_key[40] ^= 1;
    corrupt_key = ModuleWorld::with_mac1(corrupt_key, world_.host());
    world_.connect(world_.host(), world_.site(), false);
    Observer host(world_.host());

    for (int i = 0; i < 3; ++i)
        world_.send(corrupt_mac, world_.host());
    for (int i = 0; i < 2; ++i)
        world_.send(unknown, world_.host());
    world_.send(corrupt_key, world_.host());
    ASSERT_TRUE(host.look_until(
        [&] { return host.count(HANDSHAKE_INVALID_MAC) == 3 && host.count(HANDSHAKE_UNKNOWN_PEER) == 3; }));
    EXPECT_TRUE(world_.drain(200).empty());

    world_.send(genuine, world_.host());
    const auto response = world_.receive(10'000);
    ASSERT_TRUE(response);
    EXPECT_EQ(response->size(), 92U);
    for (std::uint64_t i = 1; i <= 3; ++i) {
        std::this_thread::sleep_for(milliseconds(100));
        world_.send(genuine, world_.host());
        ASSERT_TRUE(host.look_until([&] { return host.all_counts() == 6 + i; }));
        EXPECT_EQ(host.count(HANDSHAKE_REPLAY, world_.site().keys.bytes), i);
    }
    // Nobody follows the response up.
    ASSERT_TRUE(host.look_until([&] { return !host.handshakes().empty(); }));
    ASSERT_EQ(host.handshakes().size(), 1U);
    EXPECT_EQ(host.handshakes()[0].result, HANDSHAKE_TIMEOUT);
    EXPECT_EQ(host.handshakes()[0].role, HANDSHAKE_RESPONDER);
    EXPECT_EQ(key_of(host.handshakes()[0].identity), world_.site().keys.bytes);
    EXPECT_EQ(host.all_counts(), 9U);
}

TEST_F(ModuleProbeTest, KnowsAnInitiationThatCameTooSoon) {
    world_.connect(world_.host(), world_.site(), false);
    Observer host(world_.host());
    const PublicKey& key = world_.site().keys.bytes;
    // 20 ms are short on a slow machine: an initiation that comes too late for it is accepted.
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;
    for (int attempt = 0; attempt < 20 && refused < 2; ++attempt) {
        const Message first = world_.initiation_of(world_.site().keys);
        const Message second = world_.initiation_of(world_.site().keys);
        world_.send(first, world_.host());
        ASSERT_TRUE(world_.receive(10'000));
        world_.send(second, world_.host());
        (world_.receive(3000) ? accepted : refused) += 1;
        host.look();
    }
    EXPECT_GT(refused, 0U) << "the machine is too slow";
    ASSERT_TRUE(host.look_until([&] { return host.all_counts() == refused; }));
    EXPECT_EQ(host.count(HANDSHAKE_RATE_LIMITED, key), refused);
}

TEST_F(ModuleProbeTest, CountsInitiationsThatAreNeverAnsweredButNotThoseThatWereNeverSent) {
    Observer host(world_.host());
    // No endpoint, but a reason to begin.
    host.look();
    world_.host().set("peer " + WireGuardKeys::generate().public_key + " persistent-keepalive 1");
    // The test's own socket: silent.
    const PublicKey& key = world_.site().keys.bytes;
    world_.host().set("peer " + world_.site().keys.public_key +
                      " persistent-keepalive 1 endpoint 10.211.0.2:40000");
    ASSERT_TRUE(host.look_until([&] { return host.handshakes().size() >= 2; }));
    ModuleWorld::disconnect(world_.host(), world_.site());
    const std::size_t sent = world_.drain(200).size();
    ASSERT_TRUE(host.look_until([&] { return host.handshakes().size() == sent; }));
    for (const handshake& each : host.handshakes()) {
        EXPECT_EQ(each.result, HANDSHAKE_TIMEOUT);
        EXPECT_EQ(each.role, HANDSHAKE_INITIATOR);
        EXPECT_EQ(key_of(each.identity), key);
    }
}

TEST_F(ModuleProbeTest, CountsCookieRepliesUnderLoad) {
    world_.connect(world_.host(), world_.site(), false);
    const Message genuine = world_.initiation_of(world_.site().keys);
    Observer host(world_.host());
    // More than an eighth of the queue of 4096 at once is load; more than half of it would lose some.
    constexpr std::size_t flood = 1800;
    for (std::size_t i = 0; i < flood; ++i)
        world_.send(genuine, world_.host());
    const std::vector<std::size_t> replies = world_.drain(3000);
    const auto cookies = static_cast<std::uint64_t>(std::ranges::count(replies, 64U));
    const auto responses = static_cast<std::uint64_t>(std::ranges::count(replies, 92U));
    EXPECT_GT(cookies, 0U);
    EXPECT_EQ(responses, 1U);
    // Workers on two CPUs may both accept the same initiation, of which only one is then answered
    // (wg_noise_handshake_consume_initiation checks for a replay before it takes the lock for writing).
    const auto seen = [&] { return host.all_counts() + responses; };
    ASSERT_TRUE(host.look_until([&] { return seen() + 1 >= flood; })) << seen();
    EXPECT_LE(seen(), flood);
    EXPECT_EQ(host.count(HANDSHAKE_COOKIE_REPLY), cookies);
    const PublicKey& key = world_.site().keys.bytes;
    EXPECT_EQ(host.count(HANDSHAKE_REPLAY, key) + host.count(HANDSHAKE_RATE_LIMITED, key),
              seen() - cookies - responses);
}

TEST_F(ModuleProbeTest, SeesThatTheFarSideAskedForACookie) {
    world_.connect(world_.site(), world_.host(), false);
    Observer host(world_.host());
    // The site is under load for a second after the last of these.
    Message nonsense(148, 0x55);
    std::fill_n(nonsense.begin(), 4, 0);
    nonsense[0] = 1;
    nonsense = ModuleWorld::with_mac1(nonsense, world_.site());
    for (int i = 0; i < 1500; ++i)
        world_.send(nonsense, world_.site());
    world_.connect(world_.host(), world_.site(), true);
    // The second attempt, 5 s later, has the cookie.
    ASSERT_TRUE(host.look_until([&] { return host.handshakes().size() == 2; }));
    EXPECT_EQ(host.handshakes()[0].result, HANDSHAKE_COOKIE_REPLY);
    EXPECT_EQ(host.handshakes()[0].role, HANDSHAKE_INITIATOR);
    EXPECT_EQ(key_of(host.handshakes()[0].identity), world_.site().keys.bytes);
    expect_success(host.handshakes()[1], world_.site(), HANDSHAKE_INITIATOR);
}

// Sends datagrams through the host's tunnel; with `segments` above 1 as super-packets of so many.
void send_through_tunnel(const WireGuardSide& host, const std::string& to, int count, int segments = 1) {
    const auto sent = run_in_network_namespace(host.interface.netns, [&]() -> Result<void> {
        const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        constexpr int segment_size = 100;
        if (segments > 1 &&
            ::setsockopt(fd.get(), SOL_UDP, UDP_SEGMENT, &segment_size, sizeof segment_size) != 0)
            return system_failure(errno, "UDP_SEGMENT");
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(9);
        inet_pton(AF_INET, to.c_str(), &address.sin_addr);
        const std::vector<char> payload(static_cast<std::size_t>(segments * segment_size));
        for (int i = 0; i < count; ++i) {
            if (::sendto(fd.get(), payload.data(), payload.size(), 0,
                         reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
                return system_failure(errno, "cannot send through the tunnel");
        }
        return {};
    });
    ASSERT_TRUE(sent) << sent.error().message();
}

// Peers whose endpoint, the test's own socket, is silent.
void add_silent_peer(const WireGuardSide& host, const WireGuardKeys& keys, const std::string& allowed_ips) {
    host.set("peer " + keys.public_key + " endpoint 10.211.0.2:40000 allowed-ips " + allowed_ips);
}

TEST_F(ModuleProbeTest, CountsPacketsThatWaitedForAHandshakeInVain) {
    const WireGuardSide& host = world_.host();
    const WireGuardKeys first = WireGuardKeys::generate();
    const WireGuardKeys second = WireGuardKeys::generate();
    add_silent_peer(host, first, "100.89.11.0/24");
    add_silent_peer(host, second, "100.89.12.0/24");
    add_silent_peer(world_.site(), first, "100.89.11.0/24");
    Observer observer(host);
    Observer other(world_.site());

    send_through_tunnel(host, "100.89.11.1", 500);
    observer.look();
    // A queue may hold one packet above its limit of 128.
    EXPECT_EQ(observer.drops(first.bytes), 500U - 129U);
    EXPECT_EQ(host.tx_dropped(), 500U - 129U);

    send_through_tunnel(host, "100.89.12.1", 20, 10);
    observer.look();
    EXPECT_EQ(observer.drops(first.bytes), 500U - 129U);
    EXPECT_EQ(observer.drops(first.bytes) + observer.drops(second.bytes), host.tx_dropped());
    EXPECT_EQ(observer.drops(second.bytes), 200U - 138U);

    send_through_tunnel(world_.site(), "100.89.11.1", 140);
    observer.look();
    other.look();
    EXPECT_EQ(other.drops(first.bytes), 140U - 129U);
    EXPECT_EQ(observer.drops(first.bytes), 500U - 129U);

    host.run("ip link set pgxwg0 down");
    observer.look();
    EXPECT_EQ(observer.drops(first.bytes), 500U);
    EXPECT_EQ(observer.drops(second.bytes), 200U);
    EXPECT_EQ(host.tx_dropped(), 700U);
    EXPECT_EQ(observer.drops(nobody), 0U);
}

TEST_F(ModuleProbeTest, LosesNoDropWhenManySendAtOnce) {
    const WireGuardSide& host = world_.host();
    std::vector<WireGuardKeys> keys;
    for (int i = 0; i < 2; ++i) {
        keys.push_back(WireGuardKeys::generate());
        add_silent_peer(host, keys.back(), "100.89.1" + std::to_string(i) + ".0/24");
    }
    Observer observer(host);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&, i] {
                send_through_tunnel(host, "100.89.1" + std::to_string(i % 2) + ".1", 3000, 1 + i / 2);
            });
    }
    // Claims what a collision may have left.
    for (int i = 0; i < 2; ++i)
        send_through_tunnel(host, "100.89.1" + std::to_string(i) + ".1", 1);
    observer.look();
    EXPECT_EQ(observer.drops(keys[0].bytes) + observer.drops(keys[1].bytes), host.tx_dropped());
    // Those of two peers in the same moment may be exchanged, and emulated CPUs stand still in between.
    EXPECT_NEAR(static_cast<double>(observer.drops(keys[0].bytes)),
                static_cast<double>(observer.drops(keys[1].bytes)), 2'000);
    EXPECT_GT(host.tx_dropped(), 17'000U);
    host.run("ip link set pgxwg0 down");
    observer.look();
    EXPECT_EQ(observer.drops(keys[0].bytes) + observer.drops(keys[1].bytes), 18'002U);
}

TEST_F(ModuleProbeTest, IsWhatAutomaticPrefers) {
    const auto automatic = choose_handshake_source(world_.host().interface, HandshakeMode::automatic);
    ASSERT_TRUE(automatic) << automatic.error().message();
    EXPECT_EQ(*automatic, HandshakeSource::module);
    const auto underlay = choose_handshake_source(world_.host().interface, HandshakeMode::underlay);
    ASSERT_TRUE(underlay) << underlay.error().message();
    EXPECT_EQ(*underlay, HandshakeSource::underlay);
    WireGuardInterface userspace = world_.host().interface;
    userspace.implementation = WireGuardImplementation::userspace;
    const auto refused = choose_handshake_source(userspace, HandshakeMode::module);
    ASSERT_FALSE(refused);
    EXPECT_FALSE(refused.error().hint.empty());
    const std::vector<Finding> findings = inspect_host();
    EXPECT_NE(std::ranges::find_if(findings,
                                   [](const Finding& finding) {
                                       return finding.subject == "handshakes" &&
                                              finding.level == FindingLevel::ok;
                                   }),
              findings.end());
}

}  // namespace
}  // namespace pangolin::test
