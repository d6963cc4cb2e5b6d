#include "userspace/control_plane/sign_in.h"

#include <algorithm>
#include <array>

namespace pangolin {
namespace {

struct Rule {
    // Empty: any.
    std::string_view auth_method;
    std::uint16_t first_status;
    std::uint16_t last_status;
    // What the body holds; empty: anything.
    std::string_view words;
    SignInResult result;
    std::string_view reason{};
    bool token_issued = false;
};

using enum SignInResult;

// Pangolin 1.19 to 1.22, server/routers/auth, resource, idp, newt and olm. The first that fits counts.
constexpr auto rules = std::to_array<Rule>({
    {"", 202, 202, "", challenge, ""},
    {"", 200, 299, "Already logged in", success, ""},
    {"", 200, 299, "already valid", success, ""},
    {"", 200, 299, "", success, "", true},
    {"", 429, 429, "", failure, "rate_limited"},
    {"", 400, 499, "expired", failure, "expired"},
    {"", 400, 499, "blocked", failure, "blocked"},
    {"password", 401, 401, "two-factor code", failure, "invalid_code"},
    {"pincode", 401, 401, "", failure, "invalid_code"},
    {"whitelist", 401, 401, "not whitelisted", failure, "not_allowed"},
    {"whitelist", 401, 401, "", failure, "invalid_code"},
    {"oidc", 401, 401, "No policies matched", failure, "not_allowed"},
    {"oidc", 401, 401, "User with", failure, "not_allowed"},
    {"", 401, 401, "", failure, "invalid_credentials"},
    {"", 403, 403, "", failure, "not_allowed"},
    // An unknown name and a wrong secret are bad requests to Pangolin, as is a key that does not fit.
    {"newt", 400, 400, "", failure, "invalid_credentials"},
    {"olm", 400, 400, "", failure, "invalid_credentials"},
    {"passkey", 400, 400, "", failure, "invalid_credentials"},
    {"oidc", 400, 400, "", failure, "invalid_credentials"},
    {"", 408, 408, "", error, "server_error"},
    {"", 400, 499, "", error, "other"},
    {"", 500, 599, "", error, "server_error"},
});

bool fits(const Rule& rule, std::string_view auth_method, std::uint16_t status, std::string_view body) {
    return (rule.auth_method.empty() || rule.auth_method == auth_method) && rule.first_status <= status &&
           status <= rule.last_status && body.contains(rule.words);
}

}  // namespace

std::string_view to_string(SignInResult result) {
    static constexpr std::array<std::string_view, 4> names{"success", "challenge", "failure", "error"};
    return names.at(static_cast<std::size_t>(result));
}

SignInOutcome judge_sign_in(std::string_view auth_method, std::uint16_t status, std::string_view body) {
    const auto rule =
        std::ranges::find_if(rules, [&](const Rule& each) { return fits(each, auth_method, status, body); });
    if (rule == rules.end())
        return {};
    return {rule->result, rule->reason, rule->token_issued};
}

}  // namespace pangolin
