// What happened to sessions between two readings of their tables.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "userspace/accounts/account_snapshot.h"
#include "userspace/accounts/session_table.h"

namespace pangolin {

// By SessionKind; none where the table does not exist.
using SessionReading = std::array<std::optional<std::vector<Session>>, session_kinds>;

// Not thread-safe.
class SessionLedger {
  public:
    // `now` is the time that the reading's expired sessions were left out by, in Unix milliseconds. The first
    // reading of a table is how things are. A session that came and went between two readings is not seen.
    void update(SessionReading reading, std::int64_t now, AccountCounts& counts);

  private:
    // Sessions that ended before their time, by kind.
    using Ended = std::array<std::vector<Session>, session_kinds>;

    static void compare(const std::vector<Session>& before, const std::vector<Session>& after,
                        std::int64_t now, AccountCounts& counts, std::vector<Session>& ended);
    static void judge(const Ended& ended, AccountCounts& counts);
    void count_active(AccountCounts& counts) const;

    // In the order of the keys.
    SessionReading last_;
};

}  // namespace pangolin
