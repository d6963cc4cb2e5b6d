#include "userspace/metadata/name_lookup.h"

#include <fmt/format.h>
#include <netdb.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using boost::asio::ip::tcp;

constexpr int most_lookups = 16;
// Threads that are in getaddrinfo() now.
std::atomic<int> lookups = 0;

struct Answer {
    // As getaddrinfo() returns it.
    int error = EAI_AGAIN;
    std::vector<tcp::endpoint> endpoints;
};

// Shared by who waits and who looks up: either may be gone first.
struct Lookup {
    std::mutex mutex;
    std::condition_variable_any done;
    bool is_done = false;
    Answer answer;
};

Answer ask(const std::string& host, std::uint16_t port, int flags) {
    addrinfo hints{};
    hints.ai_flags = flags | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    Answer answer;
    answer.error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    if (answer.error != 0)
        return answer;
    for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
        tcp::endpoint endpoint;
        if (entry->ai_addrlen > endpoint.capacity())
            continue;
        std::memcpy(endpoint.data(), entry->ai_addr, entry->ai_addrlen);
        endpoint.resize(entry->ai_addrlen);
        answer.endpoints.push_back(endpoint);
    }
    ::freeaddrinfo(list);
    return answer;
}

Result<std::vector<tcp::endpoint>> result_of(Answer answer, const std::string& host) {
    if (answer.error != 0)
        return failure(fmt::format("{} is not known: {}", in_quotes(host), ::gai_strerror(answer.error)));
    return std::move(answer.endpoints);
}

}  // namespace

Result<std::vector<tcp::endpoint>> look_up(const std::string& host, std::uint16_t port,
                                           std::chrono::milliseconds time_limit,
                                           const std::stop_token& stop) {
    if (Answer answer = ask(host, port, AI_NUMERICHOST); answer.error == 0)
        return result_of(std::move(answer), host);
    if (lookups.fetch_add(1) >= most_lookups) {
        --lookups;
        return failure(fmt::format("{} is not looked up while {} names are", in_quotes(host), most_lookups),
                       "Do the name servers of this host answer? See /etc/resolv.conf.");
    }
    const auto lookup = std::make_shared<Lookup>();
    std::thread([lookup, host, port] {
        Answer answer = ask(host, port, 0);
        {
            const std::lock_guard lock(lookup->mutex);
            lookup->answer = std::move(answer);
            lookup->is_done = true;
        }
        lookup->done.notify_all();
        --lookups;
    }).detach();
    std::unique_lock lock(lookup->mutex);
    if (!lookup->done.wait_for(lock, stop, time_limit, [&] { return lookup->is_done; }))
        return failure(fmt::format("{} was not found within {} ms", in_quotes(host), time_limit.count()),
                       "Do the name servers of this host answer? See /etc/resolv.conf.", ETIMEDOUT);
    return result_of(std::move(lookup->answer), host);
}

}  // namespace pangolin
