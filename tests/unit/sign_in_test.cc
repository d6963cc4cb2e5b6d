// How sign-ins end, by the answers that Pangolin gives.
#include "userspace/control_plane/sign_in.h"

#include <gtest/gtest.h>

#include <string>

namespace pangolin {
namespace {

std::string error_body(std::string_view message) {
    return R"({"data":null,"success":false,"error":true,"message":")" + std::string(message) +
           "\",\"status\":";
}

TEST(SignIn, IsJudgedByTheAnswer) {
    using enum SignInResult;
    struct Case {
        std::string_view auth_method;
        std::uint16_t status;
        std::string body;
        SignInResult result;
        std::string_view reason;
        bool token_issued;
    };
    const Case cases[] = {
        {"password", 200, "", success, "", true},
        {"password", 200, R"({"data":null,"success":true,"error":false,"message":"Logged in successfully")",
         success, "", true},
        {"password", 200,
         R"({"data":null,"success":true,"error":false,"message":"Already logged in","status")", success, "",
         false},
        {"password", 202, "", challenge, "", false},
        {"password", 401, "", failure, "invalid_credentials", false},
        {"password", 401, error_body("Username or password is incorrect"), failure, "invalid_credentials",
         false},
        {"password", 401, error_body("The two-factor code you entered is incorrect"), failure, "invalid_code",
         false},
        {"password", 403, "", failure, "not_allowed", false},
        {"password", 429, "", failure, "rate_limited", false},
        {"password", 400, "", error, "other", false},
        {"password", 404, "", error, "other", false},
        {"password", 408, "", error, "server_error", false},
        {"password", 500, "", error, "server_error", false},
        {"password", 0, "", error, "", false},
        {"oidc", 201, "", success, "", true},
        {"oidc", 401, error_body("OIDC provider rejected the request"), failure, "invalid_credentials",
         false},
        {"oidc", 401, error_body("No policies matched for joe. This user must be added"), failure,
         "not_allowed", false},
        {"oidc", 401, error_body("User with username joe is unprovisioned"), failure, "not_allowed", false},
        {"oidc", 502, "", error, "server_error", false},
        {"passkey", 400, "", failure, "invalid_credentials", false},
        {"passkey", 400, error_body("Your sign-in session has expired. For"), failure, "expired", false},
        {"pincode", 401, error_body("Incorrect PIN"), failure, "invalid_code", false},
        {"pincode", 400, "", error, "other", false},
        {"whitelist", 202, "", challenge, "", false},
        {"whitelist", 200, "", success, "", true},
        {"whitelist", 401, error_body("Email is not whitelisted"), failure, "not_allowed", false},
        {"whitelist", 401, error_body("Incorrect OTP"), failure, "invalid_code", false},
        {"access_token", 401, "", failure, "invalid_credentials", false},
        {"access_token", 401, error_body("Access token has expired"), failure, "expired", false},
        {"newt", 200, "", success, "", true},
        {"newt", 200, R"({"data":null,"success":true,"error":false,"message":"Token session already valid")",
         success, "", false},
        {"newt", 400, "", failure, "invalid_credentials", false},
        {"newt", 429, "", failure, "rate_limited", false},
        {"olm", 400, "", failure, "invalid_credentials", false},
        {"olm", 403, error_body("Client is blocked"), failure, "blocked", false},
    };
    for (const Case& each : cases) {
        SCOPED_TRACE(std::string(each.auth_method) + " " + std::to_string(each.status) + " " + each.body);
        const SignInOutcome outcome = judge_sign_in(each.auth_method, each.status, each.body);
        EXPECT_EQ(outcome.result, each.result);
        EXPECT_EQ(outcome.reason, each.reason);
        EXPECT_EQ(outcome.token_issued, each.token_issued);
    }
}

// Whatever else a server may answer: it is judged, and never as a success.
TEST(SignIn, OnlyAnswersOfSuccessAreSuccess) {
    for (const std::string_view method : {"password", "oidc", "newt", "unknown"})
        for (std::uint16_t status = 0; status < 1000; ++status) {
            const SignInOutcome outcome = judge_sign_in(method, status, "");
            EXPECT_EQ(outcome.result == SignInResult::success,
                      status >= 200 && status <= 299 && status != 202);
            EXPECT_EQ(outcome.token_issued, outcome.result == SignInResult::success);
        }
}

}  // namespace
}  // namespace pangolin
