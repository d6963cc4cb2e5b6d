// What a snapshot says of sign-ins, as Pangolin's database has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace pangolin {

// How somebody came to a session; the label `auth_method`. `sso` is a resource's session that a user's own
// led to.
enum class AuthMethod : std::uint8_t {
    password,
    oidc,
    sso,
    pincode,
    whitelist,
    access_token,
    newt,
    olm,
    other
};
inline constexpr std::size_t auth_methods = 9;
inline constexpr std::array<std::string_view, auth_methods> auth_method_names{
    "password", "oidc", "sso", "pincode", "whitelist", "access_token", "newt", "olm", "other"};

// Why a session is no more. `logout`: one session of a user ended before its time, and those of resources
// with it. `removed`: any other that did, such as all of a user's at once.
enum class SessionEnd : std::uint8_t { logout, expired, removed };
inline constexpr std::size_t session_ends = 3;
inline constexpr std::array<std::string_view, session_ends> session_end_names{"logout", "expired", "removed"};

// Connections of Pangolin to its database.
struct DatabaseConnections {
    // In a query or a transaction.
    std::uint64_t active = 0;
    std::uint64_t idle = 0;
};

// Rows of the table `blueprints` since the exporter's start.
struct BlueprintCounts {
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;
};

// Counts since the exporter's start, and what there is now.
struct AccountCounts {
    // Users, newts and olms with a session that has not expired, sessions where they are a resource's.
    std::array<std::uint64_t, auth_methods> active{};
    std::array<std::uint64_t, auth_methods> issued{};
    std::array<std::uint64_t, session_ends> ended{};
    // Sessions whose life was prolonged.
    std::uint64_t refreshed = 0;
    // Users' sessions that have not expired.
    std::uint64_t user_sessions = 0;
    // None where this version of Pangolin has no such table.
    std::optional<BlueprintCounts> blueprints;
    // PostgreSQL only; none also where the exporter's role may not see others' state.
    std::optional<DatabaseConnections> connections;
};

}  // namespace pangolin
