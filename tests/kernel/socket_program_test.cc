// Targets and namespaces that come and go, connections that were there before, full maps, many at the same
// time.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "tests/kernel/socket_fixture.h"

namespace pangolin::test {
namespace {

using namespace std::chrono_literals;

class SocketProgramTest : public SocketFixture {};

TEST_F(SocketProgramTest, AttachesEverything) {
    EXPECT_FALSE(program_->connect_trouble()) << program_->connect_trouble()->message();
    EXPECT_EQ(program_->attachments(), 7U);
    EXPECT_TRUE(program_->read().empty());
    EXPECT_EQ(program_->sockets(), 0U);
}

TEST_F(SocketProgramTest, CountsAConnectionFromAttemptToEnd) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    expect({.attempts = 1, .established = 1});
    EXPECT_EQ(live_connections(counts()), 1U);
    EXPECT_EQ(program_->sockets(), 1U);
    both.client.reset();
    both.server.reset();
    pause_for(50ms);
    expect({.attempts = 1, .established = 1, .ends = {1}});
    EXPECT_EQ(live_connections(counts()), 0U);
    EXPECT_EQ(program_->sockets(), 0U);
    EXPECT_EQ(samples(counts()), 1U);
}

TEST_F(SocketProgramTest, KnowsIpv6AndMappedAddresses) {
    ASSERT_TRUE(pair("fd89::2"));
    expect({.attempts = 1, .established = 1, .ends = {1}}, raw6);
    ASSERT_TRUE(pair("::ffff:10.89.0.2"));
    expect({.attempts = 1, .established = 1, .ends = {1}}, raw);
}

void say(const UniqueFd& from, const UniqueFd& to, std::size_t size = 100) {
    const std::vector<char> data(size, 'x');
    std::vector<char> got(size);
    ASSERT_EQ(::send(from.get(), data.data(), size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    ASSERT_EQ(::recv(to.get(), got.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
}

// What happens on an established connection, and how it has ended then.

TEST_F(SocketProgramTest, FindsConnectionsThatExistedBefore) {
    program_.reset();
    ConnectionPair v4 = pair();
    ConnectionPair v6 = pair("fd89::2");
    ConnectionPair mapped = pair("::ffff:10.89.0.2");
    ASSERT_TRUE(v4 && v6 && mapped);
    say(v4.client, v4.server, 5000);
    say(v4.server, v4.client, 3000);
    attach();
    expect({});
    for (int i = 0; i < 3; ++i)
        sample();
    expect({.found = 2});
    expect({.found = 1}, raw6);
    EXPECT_EQ(live_connections(counts()), 2U);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS] + counts().bytes[TRAFFIC_INGRESS], 0U);
    say(v4.client, v4.server, 50);
    say(v4.server, v4.client, 30);
    v4.server.reset();
    v4.client.reset();
    mapped.client.reset();
    v6.server.reset();
    pause_for(20ms);
    v6.client.reset();
    expect_ended({.ends = {2}, .found = 2});
    expect_ended({.ends = {0, 1}, .found = 1}, raw6);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 50U);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], 30U);
}

// A spare connection that is as old as the exporter was never used as far as anybody knows.
TEST_F(SocketProgramTest, AnOldHttpConnectionThatWasNeverUsedIsNoError) {
    program_.reset();
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    attach();
    set_http_targets();
    sample();
    both.server.reset();
    pause_for(20ms);
    both.client.reset();
    expect_ended({.ends = {1}, .found = 1});
}

TEST_F(SocketProgramTest, ATargetThatGoesTakesNothingWithIt) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    say(both.client, both.server, 100);
    set_targets({});
    const ConnectionPair meanwhile = pair();
    sample();
    expect({.attempts = 1, .established = 1});
    const auto taken = program_->take(raw);
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->established, 1U);
    EXPECT_EQ(taken->bytes[TRAFFIC_EGRESS], 100U);
    EXPECT_FALSE(program_->take(raw));
    say(both.client, both.server, 11);
    // It comes back: the one that began in between is found.
    set_targets(usual_targets());
    sample();
    expect({.found = 1});
    EXPECT_EQ(taken->established + live_connections(counts()), 2U);
    both.client.reset();
    wait_until([&] { return counts().ends[SOCKET_END_ORDINARY] == 1; });
    expect({.ends = {1}, .found = 1});
    EXPECT_EQ(taken->established + live_connections(counts()), 1U);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 11U);
}

TEST_F(SocketProgramTest, ConnectionsKeepTheIndexThatTheyBeganWith) {
    ConnectionPair old = pair();
    set_targets({target("10.89.0.2", listening, 77)});
    ConnectionPair young = pair();
    say(old.client, old.server, 10);
    say(young.client, young.server, 20);
    old.client.reset();
    young.client.reset();
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, raw);
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 77);
    EXPECT_EQ(counts(raw).bytes[TRAFFIC_EGRESS], 10U);
    EXPECT_EQ(counts(77).bytes[TRAFFIC_EGRESS], 20U);
}

TEST_F(SocketProgramTest, ANamespacesOwnTargetGoesBefore) {
    const auto here = static_cast<std::uint32_t>(net_->near_interface().netns.id.inode);
    set_targets({target("10.89.0.2", listening, 10), target("10.89.0.2", listening, 11, here),
                 target("10.89.0.2", listening, 12, here + 1), target("fd89::2", listening, 13, here + 1)});
    ASSERT_TRUE(pair());
    ASSERT_TRUE(pair("fd89::2"));
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 11);
    EXPECT_EQ(program_->read().size(), 1U);
}

TEST_F(SocketProgramTest, IgnoresOtherNamespacesProtocolsAndEnds) {
    // The far namespace dials its own address, which is a target for us.
    EXPECT_TRUE(net_->far_socket([] { return connected("10.89.0.2"); }));
    const Address udp_address = address("10.89.0.2", listening);
    const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect_to(udp.get(), udp_address), 0);
    // We are dialled.
    const UniqueFd listener = listen_on_all();
    EXPECT_TRUE(net_->far_socket([] { return connected("10.89.0.1"); }));
    EXPECT_TRUE(accepted(listener));
    sample();
    EXPECT_TRUE(program_->read().empty());
    EXPECT_EQ(program_->sockets(), 0U);
    set_namespaces({});
    EXPECT_TRUE(connected("10.89.0.2"));
    ASSERT_TRUE(net_->run("ip addr flush dev pgx0"));
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_TRUE(program_->read().empty());
}

TEST_F(SocketProgramTest, SeveralNamespacesAtTheSameTime) {
    const NamespaceChild other(NamespaceChild::Mounts::shared, [] {
        return LinkedNamespaces::run("ip link set lo up && ip addr add 10.89.0.2/32 dev lo");
    });
    ASSERT_TRUE(other.running());
    set_targets({target("10.89.0.2", listening, raw),
                 target("10.89.0.2", listening, 9, static_cast<std::uint32_t>(other.netns().id.inode))});
    set_namespaces({net_->near_interface().netns, other.netns()});
    const ConnectionPair here = pair();
    ConnectionPair there;
    const auto made = run_in_network_namespace(other.netns(), [&]() -> Result<void> {
        there = connect_pair(listen_on_all(), "10.89.0.2");
        return {};
    });
    ASSERT_TRUE(made && here && there);
    say(there.client, there.server, 321);
    sample();
    expect({.attempts = 1, .established = 1}, raw);
    expect({.attempts = 1, .established = 1}, 9);
    EXPECT_EQ(counts(9).bytes[TRAFFIC_EGRESS], 321U);
    // Left out, it is counted to its end.
    set_namespaces({net_->near_interface().netns});
    say(there.client, there.server, 1);
    sample();
    EXPECT_EQ(counts(9).bytes[TRAFFIC_EGRESS], 322U);
    there.client.reset();
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 9);
}

TEST_F(SocketProgramTest, ANamespaceThatIsGoneIsNoError) {
    std::optional<NamespaceChild> other(std::in_place);
    ASSERT_TRUE(other->running());
    set_namespaces({net_->near_interface().netns, other->netns()});
    sample();
    other.reset();
    const ConnectionPair here = pair();
    sample();
    set_namespaces({net_->near_interface().netns});
    for (int i = 0; i < 40; ++i)
        sample();
    expect({.attempts = 1, .established = 1});
    EXPECT_EQ(live_connections(counts()), 1U);
}

TEST_F(SocketProgramTest, ForgetsARecordWhoseSocketIsGone) {
    const ConnectionPair both = pair();
    ASSERT_TRUE(both);
    const std::uint64_t no_cookie = ~std::uint64_t{0};
    socket_record orphan{};
    orphan.target = raw;
    orphan.flags = SOCKET_ESTABLISHED;
    ASSERT_EQ(bpf_map_update_elem(program_->sockets_fd(), &no_cookie, &orphan, BPF_ANY), 0);
    for (int i = 0; i < 40; ++i)
        sample();
    EXPECT_EQ(program_->sockets(), 1U);
    EXPECT_EQ(counts().ends[SOCKET_END_UNSEEN], 1U);
    ASSERT_TRUE(program_->take(raw));
    EXPECT_EQ(counts().ends[SOCKET_END_UNSEEN], 0U);
}

TEST_F(SocketProgramTest, RecordsAreFoundBySocketCookie) {
    set_http_targets();
    const ConnectionPair both = pair();
    ASSERT_TRUE(both);
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    ASSERT_EQ(::getsockopt(both.client.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
    socket_record record{};
    ASSERT_EQ(bpf_map_lookup_elem(program_->sockets_fd(), &cookie, &record), 0);
    EXPECT_EQ(record.target, raw);
    EXPECT_EQ(record.flags, std::uint32_t{SOCKET_HTTP | SOCKET_ESTABLISHED});
    EXPECT_EQ(record.netns, net_->near_interface().netns.id.inode);
}

TEST_F(SocketProgramTest, CountsWhatFindsNoRoom) {
    attach({.max_targets = 3, .max_sockets = 1, .cgroup = {}});
    EXPECT_EQ(program_->lost().targets_full, 0U);
    {
        const ConnectionPair first = pair();
        const ConnectionPair second = pair();
        EXPECT_EQ(program_->lost().sockets_full, 1U);
        EXPECT_EQ(counts().attempts, 2U);
        EXPECT_EQ(counts().established, 1U);
    }
    EXPECT_TRUE(pair());
    EXPECT_EQ(counts().established, 2U) << "there is room again";
    auto targets = usual_targets();
    targets.push_back(target("10.89.0.2", 4002, 20));
    targets.push_back(target("10.89.0.2", 4003, 21));
    set_targets(targets);
    EXPECT_EQ(program_->lost().targets_full, 2U);
    set_targets(usual_targets());
    EXPECT_EQ(program_->lost().targets_full, 0U);
    // Counts of targets that are gone keep their room until they are taken.
    EXPECT_TRUE(pair("fd89::2"));
    EXPECT_FALSE(connected("10.89.0.2", closed));
    set_targets({target("10.89.0.2", listening, 50)});
    EXPECT_TRUE(pair());
    EXPECT_GT(program_->lost().counts_full, 0U);
    EXPECT_TRUE(program_->take(raw));
    EXPECT_TRUE(pair());
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 50);
}

TEST_F(SocketProgramTest, WorksWithoutControlGroups) {
    attach({.cgroup = "/nonexistent"});
    ASSERT_TRUE(program_->connect_trouble());
    EXPECT_THAT(program_->connect_trouble()->message(), testing::HasSubstr("/nonexistent"));
    EXPECT_EQ(program_->attachments(), 5U);
    ASSERT_TRUE(pair());
    expect_ended({.attempts = 1, .established = 1, .ends = {1}});
}

// Many at the same time, each with an end of its own, while targets are set and connections sampled.
TEST_F(SocketProgramTest, CountsExactlyWhatHappensAtTheSameTime) {
    constexpr std::uint16_t threads = 4;
    constexpr std::uint64_t rounds = 500;
    std::vector<SocketTarget> targets = usual_targets();
    std::vector<UniqueFd> listeners;
    for (std::uint16_t thread = 0; thread < threads; ++thread) {
        const std::uint16_t port = 5000 + thread;
        targets.push_back(target("10.89.0.2", port, port));
        listeners.push_back(net_->far_socket([&] { return listen_on_all(0, port); }));
        ASSERT_TRUE(listeners.back());
    }
    set_targets(targets);
    {
        std::atomic<bool> over = false;
        const std::jthread disturbance([&] {
            while (!over) {
                auto more = targets;
                more.push_back(target("10.89.0.9", 1, 30));
                EXPECT_TRUE(program_->set_targets(more));
                EXPECT_TRUE(program_->set_targets(targets));
                EXPECT_TRUE(program_->sample());
            }
        });
        std::vector<std::jthread> workers;
        for (std::uint16_t thread = 0; thread < threads; ++thread)
            workers.emplace_back([&, thread] {
                for (std::uint64_t round = 0; round < rounds; ++round) {
                    ConnectionPair both = connect_pair(listeners[thread], "10.89.0.2",
                                                       static_cast<std::uint16_t>(5000 + thread));
                    ASSERT_TRUE(both);
                    say(both.client, both.server, 10);
                    if (round % 4 == 1) {
                        both.server.reset();
                    } else if (round % 4 != 0) {
                        say(both.server, both.client, 30);
                        if (round % 4 == 2)
                            both.client.reset();
                        else
                            reset(std::move(both.server));
                    }
                    EXPECT_FALSE(connected("10.89.0.2", closed));
                }
            });
        workers.clear();
        over = true;
    }
    for (std::uint16_t thread = 0; thread < threads; ++thread) {
        const std::uint32_t index = 5000U + thread;
        expect_ended(
            {.attempts = rounds, .established = rounds, .ends = {rounds / 2, rounds / 4, rounds / 4}}, index);
        EXPECT_EQ(counts(index).bytes[TRAFFIC_EGRESS], rounds * 10);
        EXPECT_EQ(counts(index).bytes[TRAFFIC_INGRESS], rounds / 2 * 30);
    }
    expect({.attempts = threads * rounds, .failures = {threads * rounds}}, nobody);
    EXPECT_EQ(program_->sockets(), 0U);
    EXPECT_EQ(program_->lost().ends_missed, 0U);
}

}  // namespace
}  // namespace pangolin::test
