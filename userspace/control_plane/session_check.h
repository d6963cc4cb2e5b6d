// What badger makes of Pangolin's answer to its question whether a request to a resource may pass.
#pragma once

#include <cstdint>
#include <string_view>

namespace pangolin {

enum class SessionCheckResult : std::uint8_t { allowed, refused, error };
std::string_view to_string(SessionCheckResult result);

struct SessionCheck {
    SessionCheckResult result = SessionCheckResult::error;
    // What badger answers the client with, where the request does not pass.
    std::uint16_t client_status = 0;
};

// `status` and the beginning of the body are those of the answer to POST /badger/verify-session; `status` is
// 0 when there was none. As badger 1.6 judges them (its main.go, ServeHTTP).
SessionCheck judge_session_check(std::uint16_t status, std::string_view body);

}  // namespace pangolin
