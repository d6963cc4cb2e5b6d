#include "userspace/metadata/foreign_lookup.h"

#include <ares.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>

#include "loader/files.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

struct Library {
    Library() { ares_library_init(ARES_LIB_INIT_ALL); }
    ~Library() { ares_library_cleanup(); }
};

using Channel = std::unique_ptr<ares_channeldata, decltype(&ares_destroy)>;

void add(std::vector<IpAddress>& addresses, const IpAddress& address) {
    if (std::ranges::find(addresses, address) == addresses.end())
        addresses.push_back(address);
}

// Of an AF_INET or AF_INET6 socket address, as a family of AF_UNSPEC gives.
IpAddress address_of(const sockaddr& socket) {
    if (socket.sa_family == AF_INET6)
        return IpAddress::from_network(IpFamily::v6,
                                       &reinterpret_cast<const sockaddr_in6&>(socket).sin6_addr);
    return IpAddress::from_network(IpFamily::v4, &reinterpret_cast<const sockaddr_in&>(socket).sin_addr);
}

// One name that is asked for.
struct Question {
    std::vector<IpAddress> addresses;
    int status = ARES_SUCCESS;
};

void take_answer(void* question, int status, int /*timeouts*/, ares_addrinfo* answer) {
    auto& of = *static_cast<Question*>(question);
    of.status = status;
    for (const ares_addrinfo_node* node = answer != nullptr ? answer->nodes : nullptr; node != nullptr;
         node = node->ai_next)
        add(of.addresses, address_of(*node->ai_addr));
    if (answer != nullptr)
        ares_freeaddrinfo(answer);
}

Result<Channel> open_channel(const std::string& root, std::chrono::milliseconds time_limit) {
    static const Library library;
    std::string configuration = root + "/etc/resolv.conf";
    std::string lookups = "b";  // name servers alone: "f" would be this process's own /etc/hosts
    ares_options options{};
    // Twice within the limit.
    options.timeout = std::max(1, static_cast<int>(time_limit.count()) / 2);
    options.tries = 2;
    options.lookups = lookups.data();
    options.resolvconf_path = configuration.data();
    ares_channel opened = nullptr;
    const int status = ares_init_options(
        &opened, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF);
    if (status != ARES_SUCCESS)
        return failure(fmt::format("cannot read {}: {}", configuration, ares_strerror(status)));
    return Channel(opened, &ares_destroy);
}

// Until everything is answered; what is not by then ends with ARES_ECANCELLED.
void wait_for_answers(ares_channel channel, std::chrono::milliseconds time_limit) {
    const auto end = Clock::now() + time_limit;
    for (;;) {
        std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
        const int wanted = ares_getsock(channel, sockets.data(), sockets.size());
        std::vector<pollfd> polled;
        for (std::size_t at = 0; at < sockets.size(); ++at) {
            const short events = static_cast<short>((ARES_GETSOCK_READABLE(wanted, at) ? POLLIN : 0) |
                                                    (ARES_GETSOCK_WRITABLE(wanted, at) ? POLLOUT : 0));
            if (events != 0)
                polled.push_back({.fd = sockets[at], .events = events, .revents = 0});
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        if (polled.empty() || left.count() <= 0)
            break;
        ::poll(polled.data(), polled.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 50)));
        for (const pollfd& each : polled)
            ares_process_fd(channel, each.revents & (POLLIN | POLLERR | POLLHUP) ? each.fd : ARES_SOCKET_BAD,
                            each.revents & (POLLOUT | POLLERR | POLLHUP) ? each.fd : ARES_SOCKET_BAD);
    }
    ares_cancel(channel);
}

bool does_not_exist(int status) {
    return status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME;
}

Result<void> ask_servers(const std::string& root, std::chrono::milliseconds time_limit,
                         std::map<std::string, Question>& questions) {
    const Result<Channel> channel = open_channel(root, time_limit);
    if (!channel)
        return std::unexpected(channel.error());
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_flags = ARES_AI_NOSORT;
    for (auto& [name, question] : questions)
        ares_getaddrinfo(channel->get(), name.c_str(), nullptr, &hints, take_answer, &question);
    wait_for_answers(channel->get(), time_limit);
    return {};
}

}  // namespace

AddressesByName read_hosts(const std::string& text, const std::set<std::string>& names) {
    AddressesByName found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line.substr(0, line.find('#')));
        std::string word;
        words >> word;
        const auto address = IpAddress::parse(word);
        if (!address)
            continue;
        while (words >> word)
            for (const std::string& name : names)
                if (::strcasecmp(name.c_str(), word.c_str()) == 0)
                    add(found[name], *address);
    }
    return found;
}

Result<ForeignLookup> look_up_inside(const NetworkNamespace& netns, const std::string& root,
                                     const std::set<std::string>& names,
                                     std::chrono::milliseconds time_limit) {
    ForeignLookup result{.found = read_hosts(read_small_file(root + "/etc/hosts"), names), .unanswered = {}};
    std::map<std::string, Question> questions;
    for (const std::string& name : names)
        if (!result.found.contains(name))
            questions.try_emplace(name);
    if (questions.empty())
        return result;
    const Result<void> asked =
        run_in_network_namespace(netns, [&] { return ask_servers(root, time_limit, questions); });
    if (!asked)
        return std::unexpected(asked.error());
    for (auto& [name, question] : questions) {
        if (!question.addresses.empty())
            result.found.emplace(name, std::move(question.addresses));
        else if (!does_not_exist(question.status))
            result.unanswered.insert(name);
    }
    return result;
}

}  // namespace pangolin
