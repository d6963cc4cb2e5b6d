// Reading Pangolin's tables of sessions.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "userspace/accounts/account_snapshot.h"
#include "userspace/metadata/database.h"
#include "userspace/metadata/schema.h"

namespace pangolin {

enum class SessionKind : std::uint8_t { user, resource, newt, olm };
inline constexpr std::size_t session_kinds = 4;
inline constexpr std::array<std::string_view, session_kinds> session_tables{"session", "resourceSessions",
                                                                            "newtSession", "clientSession"};

// One session. Pangolin's ids are hashes of tokens already; of them, and of users, no more is kept than 64
// bits of another hash with a salt of this process, enough to know a row again.
struct Session {
    std::uint64_t key = 0;
    // Who it is for; for a resource's session itself.
    std::uint64_t principal = 0;
    // The user's session that a resource's came from; 0 when there is none.
    std::uint64_t parent = 0;
    // Unix milliseconds.
    std::int64_t expires_at = 0;
    AuthMethod method = AuthMethod::other;
};

// Rows of one table that are kept in mind: 40 MB. Thousands of users stay far below.
inline constexpr std::size_t most_sessions = 1'000'000;

class SessionReader {
  public:
    SessionReader();

    // All sessions of the kind that have not expired at `now` (Unix milliseconds), in no order; the
    // short-lived ones by which a browser is sent from the dashboard to a resource are left out. None where
    // the table does not exist. SQLite's table is read in pages by its rowid, none of which holds the lock
    // for longer than a fraction of a millisecond; PostgreSQL's in one SELECT, which nobody waits for.
    Result<std::vector<Session>> read(Database& database, const Schema& schema, SessionKind kind,
                                      std::int64_t now) const;

  private:
    std::uint64_t hash(std::string_view text) const;
    Result<std::vector<Session>> read_pages(Database& database, const Schema& schema, SessionKind kind,
                                            std::int64_t now) const;
    Result<std::vector<Session>> read_hashed(Database& database, const Schema& schema, SessionKind kind,
                                             std::int64_t now) const;

    std::array<std::uint8_t, 16> salt_{};
};

}  // namespace pangolin
