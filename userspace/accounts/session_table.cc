#include "userspace/accounts/session_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

namespace pangolin {
namespace {

// Rows of one SELECT, so that SQLite's file is locked for some tenths of a millisecond at a time.
constexpr std::int64_t page_size = 100;

// What the SELECTs have to know of a table; expressions over "s" (and "u", the user).
struct Source {
    std::string principal;
    std::string parent = "NULL";
    std::string method = "NULL";
    std::string join = " ";
    std::string condition = "1 = 1";
};

std::string any_set(const Schema& schema, std::initializer_list<std::string_view> columns) {
    std::vector<std::string> tests;
    for (const std::string_view column : columns)
        if (schema.has("resourceSessions", column))
            tests.push_back(fmt::format(R"(s."{}" IS NOT NULL)", column));
    return tests.empty() ? "1 = 0" : fmt::format("{}", fmt::join(tests, " OR "));
}

int number(AuthMethod method) {
    return static_cast<int>(method);
}

// A session of a resource belongs to what proved the right to it; the others' columns are NULL. The columns
// of policies exist since 1.19.0.
std::string resource_method(const Schema& schema) {
    return fmt::format(
        "CASE WHEN {} THEN {} WHEN {} THEN {} WHEN {} THEN {} WHEN {} THEN {} WHEN {} THEN {} ELSE {} END",
        any_set(schema, {"passwordId", "policyPasswordId"}), number(AuthMethod::password),
        any_set(schema, {"pincodeId", "policyPincodeId"}), number(AuthMethod::pincode),
        any_set(schema, {"whitelistId", "policyWhitelistId"}), number(AuthMethod::whitelist),
        any_set(schema, {"accessTokenId"}), number(AuthMethod::access_token),
        any_set(schema, {"userSessionId"}), number(AuthMethod::sso), number(AuthMethod::other));
}

Source resource_source(const Schema& schema) {
    Source source{.principal = "s.id", .method = resource_method(schema)};
    if (schema.has("resourceSessions", "userSessionId"))
        source.parent = R"(s."userSessionId")";
    if (schema.has("resourceSessions", "isRequestToken"))
        source.condition = R"(s."isRequestToken" IS NOT TRUE)";
    return source;
}

// How a user signed in is not kept; by what the account is, it is one or the other.
Source user_source(const Schema& schema) {
    Source source{.principal = R"(s."userId")", .method = std::to_string(number(AuthMethod::other))};
    if (schema.has("user", "type")) {
        source.method =
            fmt::format("CASE u.type WHEN 'internal' THEN {} WHEN 'oidc' THEN {} ELSE {} END",
                        number(AuthMethod::password), number(AuthMethod::oidc), number(AuthMethod::other));
        source.join = R"( LEFT JOIN "user" u ON u.id = s."userId")";
    }
    return source;
}

Source source_of(const Schema& schema, SessionKind kind) {
    switch (kind) {
        case SessionKind::resource:
            return resource_source(schema);
        case SessionKind::newt:
            return {.principal = R"(s."newtId")", .method = std::to_string(number(AuthMethod::newt))};
        case SessionKind::olm:
            return {.principal = R"(s."olmId")", .method = std::to_string(number(AuthMethod::olm))};
        case SessionKind::user:
            break;
    }
    return user_source(schema);
}

AuthMethod method_of(std::optional<std::int64_t> number) {
    return number && *number >= 0 && *number < static_cast<std::int64_t>(auth_methods)
               ? static_cast<AuthMethod>(*number)
               : AuthMethod::other;
}

Error too_many(SessionKind kind) {
    return {fmt::format("table {} has more than {} sessions", session_tables[static_cast<std::size_t>(kind)],
                        most_sessions),
            "Pangolin deletes those that have expired when it starts: restart it.", 0};
}

}  // namespace

SessionReader::SessionReader() {
    RAND_bytes(salt_.data(), static_cast<int>(salt_.size()));
}

std::uint64_t SessionReader::hash(std::string_view text) const {
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    std::string salted(reinterpret_cast<const char*>(salt_.data()), salt_.size());
    salted += text;
    SHA256(reinterpret_cast<const unsigned char*>(salted.data()), salted.size(), digest.data());
    std::uint64_t value = 0;
    std::memcpy(&value, digest.data(), sizeof value);
    return value;
}

Result<std::vector<Session>> SessionReader::read(Database& database, const Schema& schema, SessionKind kind,
                                                 std::int64_t now) const {
    if (!schema.has(session_tables[static_cast<std::size_t>(kind)], "id"))
        return std::vector<Session>();
    return database.kind() == DatabaseKind::sqlite ? read_pages(database, schema, kind, now)
                                                   : read_hashed(database, schema, kind, now);
}

Result<std::vector<Session>> SessionReader::read_pages(Database& database, const Schema& schema,
                                                       SessionKind kind, std::int64_t now) const {
    const Source source = source_of(schema, kind);
    const std::string sql = fmt::format(
        R"(SELECT s.rowid, s.id, {}, {}, s."expiresAt", {}, {} FROM "{}" s{} WHERE s.rowid > $1 ORDER BY s.rowid LIMIT {})",
        source.principal, source.parent, source.method, source.condition,
        session_tables[static_cast<std::size_t>(kind)], source.join, page_size);
    // Copied while the database is locked, hashed when it is not.
    struct Row {
        std::string id;
        std::string principal;
        std::string parent;
        Session session;
    };
    std::vector<Row> page;
    std::vector<Session> sessions;
    std::int64_t last = std::numeric_limits<std::int64_t>::min();
    std::int64_t rows = page_size;
    while (rows == page_size) {
        page.clear();
        rows = 0;
        const auto result = database.query(sql, last, [&](const DatabaseRow& row) {
            ++rows;
            last = row.integer(0).value_or(last);
            const std::int64_t expires_at = row.integer(4).value_or(0);
            if (expires_at <= now || row.integer(6).value_or(0) == 0)
                return;
            page.push_back({row.text(1).value_or(""),
                            row.text(2).value_or(""),
                            row.text(3).value_or(""),
                            {.expires_at = expires_at, .method = method_of(row.integer(5))}});
        });
        if (!result)
            return std::unexpected(result.error());
        for (Row& row : page) {
            row.session.key = hash(row.id);
            row.session.principal = hash(row.principal);
            row.session.parent = row.parent.empty() ? 0 : hash(row.parent);
            sessions.push_back(row.session);
        }
        if (sessions.size() > most_sessions)
            return std::unexpected(too_many(kind));
    }
    return sessions;
}

// The server hashes: no id leaves it.
Result<std::vector<Session>> SessionReader::read_hashed(Database& database, const Schema& schema,
                                                        SessionKind kind, std::int64_t now) const {
    const Source source = source_of(schema, kind);
    std::int64_t seed = 0;
    std::memcpy(&seed, salt_.data(), sizeof seed);
    const std::string sql = fmt::format(
        R"(SELECT hashtextextended(s.id, {0}), hashtextextended({1}, {0}), hashtextextended({2}::text, {0}), s."expiresAt", {3} FROM "{4}" s{5} WHERE s."expiresAt" > CAST($1 AS BIGINT) AND {6} LIMIT {7})",
        fmt::format("'{}'::bigint", seed), source.principal, source.parent, source.method,
        session_tables[static_cast<std::size_t>(kind)], source.join, source.condition, most_sessions + 1);
    std::vector<Session> sessions;
    const auto unsigned_of = [](std::optional<std::int64_t> value) {
        return static_cast<std::uint64_t>(value.value_or(0));
    };
    const auto result = database.query(sql, now, [&](const DatabaseRow& row) {
        sessions.push_back({unsigned_of(row.integer(0)), unsigned_of(row.integer(1)),
                            unsigned_of(row.integer(2)), row.integer(3).value_or(0),
                            method_of(row.integer(4))});
    });
    if (!result)
        return std::unexpected(result.error());
    if (sessions.size() > most_sessions)
        return std::unexpected(too_many(kind));
    return sessions;
}

}  // namespace pangolin
