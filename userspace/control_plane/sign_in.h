// How an attempt to sign in ended, told from the answer.
#pragma once

#include <cstdint>
#include <string_view>

namespace pangolin {

enum class SignInResult : std::uint8_t {
    success,
    // Something more is asked for: a code, the set-up of a second factor.
    challenge,
    // Refused.
    failure,
    // Not decided: a request that makes no sense, a fault of Pangolin's, no answer at all.
    error,
};
std::string_view to_string(SignInResult result);

struct SignInOutcome {
    SignInResult result = SignInResult::error;
    // Label `reason` of a failure or an error: invalid_credentials, invalid_code, not_allowed, rate_limited,
    // blocked, expired or server_error; other where it cannot be told. Empty for a success, and without
    // answer.
    std::string_view reason;
    // Whoever signed in has a new token. Not so when they had a good one and still have it.
    bool token_issued = false;
};

// `status` is 0 when there was no answer. `body` is the beginning of the answer's body, or empty: then a
// reason that stands only there is told by the status.
SignInOutcome judge_sign_in(std::string_view auth_method, std::uint16_t status, std::string_view body);

}  // namespace pangolin
