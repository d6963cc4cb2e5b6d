#include "userspace/control_plane/session_check.h"

#include <array>
#include <charconv>
#include <cstddef>

namespace pangolin {
namespace {

constexpr std::uint16_t found = 302;
constexpr std::uint16_t unauthorized = 401;
constexpr std::uint16_t server_error = 500;

// The status that Pangolin wants the client to get; badger's own where it says nothing.
std::uint16_t status_of_client_error(std::string_view body) {
    constexpr std::string_view name = "\"statusCode\":";
    const std::size_t begin = body.find(name);
    if (!body.contains("\"clientError\":{") || begin == std::string_view::npos)
        return unauthorized;
    const std::string_view digits = body.substr(begin + name.size(), 3);
    std::uint16_t status = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), status);
    return status < 100 || status > 599 ? unauthorized : status;
}

}  // namespace

std::string_view to_string(SessionCheckResult result) {
    static constexpr std::array<std::string_view, 3> names{"allowed", "refused", "error"};
    return names.at(static_cast<std::size_t>(result));
}

// The status of the answer only says whether the question was understood: its "valid" is what counts.
SessionCheck judge_session_check(std::uint16_t status, std::string_view body) {
    if (status >= 200 && status < 300 && body.contains("\"valid\":true"))
        return {SessionCheckResult::allowed, 0};
    if (status < 200 || status >= 300 || !body.contains("\"valid\":false"))
        return {SessionCheckResult::error, server_error};
    if (body.contains("\"headerAuthChallenged\":true"))
        return {SessionCheckResult::refused, unauthorized};
    // Not null, and not empty.
    if (body.contains("\"redirectUrl\":\"") && !body.contains("\"redirectUrl\":\"\""))
        return {SessionCheckResult::refused, found};
    return {SessionCheckResult::refused, status_of_client_error(body)};
}

}  // namespace pangolin
