#include "userspace/accounts/account_monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t page_size = 100;

std::int64_t unix_milliseconds() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Runs a SELECT with pages by an id that it gives first, until a page is not full.
template <class OnRow>
Result<void> read_pages(Database& database, const std::string& sql, std::int64_t last, OnRow on_row) {
    for (std::int64_t rows = page_size; rows == page_size;) {
        rows = 0;
        const std::int64_t before = last;
        if (auto page = database.query(sql, last,
                                       [&](const DatabaseRow& row) {
                                           ++rows;
                                           last = std::max(last, row.integer(0).value_or(last));
                                           on_row(row);
                                       });
            !page)
            return page;
        // An id that does not grow would be read again for ever.
        if (last == before)
            break;
    }
    return {};
}

}  // namespace

AccountMonitor::AccountMonitor(std::shared_ptr<CertificateMonitor> certificates, int pause)
    : certificates_(std::move(certificates)), pause_(pause) {}

void AccountMonitor::describe(Snapshot& snapshot) const {
    const std::lock_guard lock(mutex_);
    snapshot.accounts = published_;
    snapshot.reads_accounts = true;
    snapshot.blueprints = blueprints_;
    snapshot.sources.push_back(state_.status());
}

bool AccountMonitor::read(Database& database, const Schema& schema) {
    Result<void> result = read_sessions(database, schema);
    if (result)
        result = read_blueprints(database, schema);
    if (result)
        result = read_certificates(database, schema);
    if (result)
        result = read_connections(database, schema);
    if (!result) {
        lose_counts();
        const std::lock_guard lock(mutex_);
        state_.failed(result.error());
        return false;
    }
    const std::lock_guard lock(mutex_);
    published_ = std::make_shared<const AccountCounts>(counts_);
    kept_counts_ = counts_;
    kept_last_blueprint_ = last_blueprint_;
    if (counts_.blueprints)
        blueprints_ = counts_.blueprints;
    state_.succeeded();
    return true;
}

void AccountMonitor::unavailable(const Error& error) {
    lose_counts();
    const std::lock_guard lock(mutex_);
    state_.failed_with(error);
}

template <class Archive>
void fields(Archive& archive, BlueprintCounts& blueprints) {
    archive(blueprints.succeeded, blueprints.failed);
}

namespace {

template <class Archive>
void archive_counts(Archive& archive, AccountCounts& counts, std::optional<std::int64_t>& last_blueprint) {
    archive(counts.issued, counts.ended, counts.refreshed, counts.blueprints, last_blueprint);
}

}  // namespace

void AccountMonitor::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    AccountCounts counts = kept_counts_;
    auto last_blueprint = kept_last_blueprint_;
    archive_counts(writer, counts, last_blueprint);
}

void AccountMonitor::restore(ArchiveReader& reader) {
    AccountCounts counts;
    std::optional<std::int64_t> last_blueprint;
    archive_counts(reader, counts, last_blueprint);
    if (!reader.ok())
        return;
    const std::lock_guard lock(mutex_);
    counts_ = kept_counts_ = counts;
    last_blueprint_ = kept_last_blueprint_ = last_blueprint;
    blueprints_ = counts.blueprints;
}

void AccountMonitor::lose_counts() {
    if (certificates_)
        certificates_->ledger().lose_rows();
    const std::lock_guard lock(mutex_);
    published_ = nullptr;
}

Result<void> AccountMonitor::read_sessions(Database& database, const Schema& schema) {
    if (!schema.has("session", "id") || !schema.has("session", "expiresAt"))
        return failure("Pangolin's database shows no table session",
                       "Let the exporter's role read it: GRANT SELECT ON session, \"resourceSessions\", "
                       "\"newtSession\", \"clientSession\", \"user\", certificates, blueprints TO its name.");
    const auto begin = Clock::now();
    if (begin < next_sessions_)
        return {};
    const std::int64_t now = unix_milliseconds();
    SessionReading reading;
    for (std::size_t kind = 0; kind < session_kinds; ++kind) {
        if (!schema.has(session_tables[kind], "id"))
            continue;
        auto sessions = sessions_.read(database, schema, static_cast<SessionKind>(kind), now);
        if (!sessions)
            return std::unexpected(sessions.error());
        reading[kind] = std::move(*sessions);
    }
    ledger_.update(std::move(reading), now, counts_);
    const auto end = Clock::now();
    next_sessions_ = end + (end - begin) * pause_;
    return {};
}

Result<void> AccountMonitor::read_blueprints(Database& database, const Schema& schema) {
    if (!schema.has("blueprints", "blueprintId") || !schema.has("blueprints", "succeeded")) {
        counts_.blueprints.reset();
        last_blueprint_.reset();
        return {};
    }
    std::int64_t newest = 0;
    if (auto result = database.query(R"(SELECT MAX("blueprintId") FROM "blueprints")", std::nullopt,
                                     [&](const DatabaseRow& row) { newest = row.integer(0).value_or(0); });
        !result)
        return result;
    if (!counts_.blueprints)
        counts_.blueprints.emplace();
    // The first reading, or another database in the old one's place, is how things are.
    if (!last_blueprint_ || newest < *last_blueprint_) {
        last_blueprint_ = newest;
        return {};
    }
    BlueprintCounts added;
    if (auto result = read_pages(
            database,
            fmt::format(
                R"(SELECT "blueprintId", "succeeded" FROM "blueprints" WHERE "blueprintId" > CAST($1 AS BIGINT) ORDER BY "blueprintId" LIMIT {})",
                page_size),
            *last_blueprint_,
            [&](const DatabaseRow& row) {
                ++(row.integer(1).value_or(0) != 0 ? added.succeeded : added.failed);
                newest = std::max(newest, row.integer(0).value_or(0));
            });
        !result)
        return result;
    counts_.blueprints->succeeded += added.succeeded;
    counts_.blueprints->failed += added.failed;
    last_blueprint_ = newest;
    return {};
}

Result<void> AccountMonitor::read_certificates(Database& database, const Schema& schema) {
    if (!certificates_)
        return {};
    // In the Community Edition the table is empty before 1.22.0: nothing is known then.
    if (!schema.has("certificates", "certId") || !schema.has("certificates", "status")) {
        certificates_->ledger().lose_rows();
        return {};
    }
    std::vector<CertificateRow> rows;
    if (auto result = read_pages(
            database,
            fmt::format(
                R"(SELECT "certId", "domain", "wildcard", "status", "expiresAt", "lastRenewalAttempt" FROM "certificates" WHERE "certId" > CAST($1 AS BIGINT) ORDER BY "certId" LIMIT {})",
                page_size),
            std::numeric_limits<std::int64_t>::min(),
            [&](const DatabaseRow& row) {
                if (rows.size() <= most_certificate_domains)
                    rows.push_back({row.text(1).value_or(""), row.integer(2).value_or(0) != 0,
                                    row.text(3).value_or(""), row.integer(4), row.integer(5).value_or(0)});
            });
        !result)
        return result;
    certificates_->ledger().set_rows(rows);
    return {};
}

// Pangolin's connections are those of the role that made its tables, people's tools aside. A transaction that
// is open has its connection, whether it is in a query or not.
Result<void> AccountMonitor::read_connections(Database& database, const Schema&) {
    counts_.connections.reset();
    if (database.kind() != DatabaseKind::postgres)
        return {};
    DatabaseConnections connections;
    std::int64_t hidden = 0;
    if (auto result = database.query(
            R"(SELECT count(*) FILTER (WHERE a.state IS NOT NULL AND a.state <> 'idle'),
       count(*) FILTER (WHERE a.state = 'idle'), count(*) FILTER (WHERE a.state IS NULL)
FROM pg_catalog.pg_stat_activity a
JOIN pg_catalog.pg_class c ON c.oid = to_regclass('"sites"') AND a.usesysid = c.relowner
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND coalesce(a.application_name, '') !~* '^(pangolin_exporter|psql|pg_|pgadmin|dbeaver|datagrip)')",
            std::nullopt,
            [&](const DatabaseRow& row) {
                connections.active = static_cast<std::uint64_t>(row.integer(0).value_or(0));
                connections.idle = static_cast<std::uint64_t>(row.integer(1).value_or(0));
                hidden = row.integer(2).value_or(0);
            });
        !result)
        return result;
    if (hidden == 0)
        counts_.connections = connections;
    return {};
}

}  // namespace pangolin
