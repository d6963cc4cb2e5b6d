// Whose newt a token was issued to.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

namespace pangolin {

// Knows tokens by the kernel's hashes of them alone (http_exchange::token). Not thread-safe.
class TokenSites {
  public:
    // Of CLOCK_MONOTONIC.
    using Time = std::chrono::nanoseconds;

    struct Issued {
        std::string site_id;
        Time requested_at{};
        // A WebSocket was asked for with it.
        bool used = false;
    };

    // A site whose newt asked for a token at `requested_at` got this one.
    void issue(std::uint64_t token, std::string site_id, Time requested_at);
    // Null for a token that is not known, or any more. The result is good until the next issue().
    Issued* find(std::uint64_t token, Time now);

    // Tokens that were forgotten before their time because there were too many.
    std::uint64_t forgotten() const { return forgotten_; }

    // Pangolin's EXPIRES of newt's sessions (server/auth/sessions/newt.ts).
    static constexpr std::chrono::days lifetime{30};
    // newt fetches a token for each WebSocket: many times all of a host's newts.
    static constexpr std::size_t most_tokens = 65536;

  private:
    std::unordered_map<std::uint64_t, Issued> issued_;
    // The oldest first.
    std::deque<std::uint64_t> order_;
    std::uint64_t forgotten_ = 0;
};

}  // namespace pangolin
