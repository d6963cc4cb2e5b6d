#include "userspace/accounts/session_ledger.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

namespace pangolin {
namespace {

constexpr std::size_t place(SessionKind kind) {
    return static_cast<std::size_t>(kind);
}

template <class Kind>
std::uint64_t& of(auto& counts, Kind kind) {
    return counts[static_cast<std::size_t>(kind)];
}

}  // namespace

void SessionLedger::update(SessionReading reading, std::int64_t now, AccountCounts& counts) {
    Ended ended;
    for (std::size_t kind = 0; kind < session_kinds; ++kind) {
        if (!reading[kind])
            continue;
        std::ranges::sort(*reading[kind], {}, &Session::key);
        if (last_[kind])
            compare(*last_[kind], *reading[kind], now, counts, ended[kind]);
    }
    judge(ended, counts);
    last_ = std::move(reading);
    count_active(counts);
}

void SessionLedger::compare(const std::vector<Session>& before, const std::vector<Session>& after,
                            std::int64_t now, AccountCounts& counts, std::vector<Session>& ended) {
    auto old = before.begin();
    const auto end_old = [&] {
        if (old->expires_at <= now)
            ++of(counts.ended, SessionEnd::expired);
        else
            ended.push_back(*old);
        ++old;
    };
    for (const Session& session : after) {
        while (old != before.end() && old->key < session.key)
            end_old();
        if (old != before.end() && old->key == session.key) {
            counts.refreshed += session.expires_at > old->expires_at ? 1 : 0;
            ++old;
        } else {
            ++of(counts.issued, session.method);
        }
    }
    while (old != before.end())
        end_old();
}

// Pangolin deletes one session when its user signs out, all of a user's when the password changes or the
// user is deleted (server/auth/sessions/app.ts), and with a user's session the resources' that came from it.
void SessionLedger::judge(const Ended& ended, AccountCounts& counts) {
    std::unordered_map<std::uint64_t, std::uint64_t> of_user;
    for (const Session& session : ended[place(SessionKind::user)])
        ++of_user[session.principal];
    std::set<std::uint64_t> logouts;
    for (const Session& session : ended[place(SessionKind::user)]) {
        const bool alone = of_user[session.principal] == 1;
        if (alone)
            logouts.insert(session.key);
        ++of(counts.ended, alone ? SessionEnd::logout : SessionEnd::removed);
    }
    for (const Session& session : ended[place(SessionKind::resource)])
        ++of(counts.ended, session.parent != 0 && logouts.contains(session.parent) ? SessionEnd::logout
                                                                                   : SessionEnd::removed);
    of(counts.ended, SessionEnd::removed) +=
        ended[place(SessionKind::newt)].size() + ended[place(SessionKind::olm)].size();
}

void SessionLedger::count_active(AccountCounts& counts) const {
    std::array<std::vector<std::uint64_t>, auth_methods> principals;
    for (const auto& sessions : last_)
        if (sessions)
            for (const Session& session : *sessions)
                principals[static_cast<std::size_t>(session.method)].push_back(session.principal);
    for (std::size_t method = 0; method < auth_methods; ++method) {
        std::ranges::sort(principals[method]);
        const auto repeated = std::ranges::unique(principals[method]);
        counts.active[method] = principals[method].size() - repeated.size();
    }
    const auto& users = last_[place(SessionKind::user)];
    counts.user_sessions = users ? users->size() : 0;
}

}  // namespace pangolin
