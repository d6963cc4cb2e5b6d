#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

// Every value of a closed set of labels is there from the start, so that its first increase is seen.
template <std::size_t Size>
void emit_all(Samples& samples, const std::array<std::string_view, Size>& names,
              const std::array<std::uint64_t, Size>& counts) {
    for (std::size_t i = 0; i < Size; ++i)
        samples.add({names[i]}, counts[i]);
}

const std::optional<DatabaseConnections>& connections_of(const Snapshot& snapshot) {
    return snapshot.accounts && snapshot.accounts->connections ? snapshot.accounts->connections
                                                               : snapshot.host.sqlite_connections;
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_auth_active_users",
     .type = MetricType::gauge,
     .labels = {"auth_method"},
     .help = "Users, newts and olms with a session that has not expired; sessions where a resource's own "
             "password, code or link opened them.",
     .source = "DA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto& accounts = view.snapshot().accounts)
                 emit_all(samples, auth_method_names, accounts->active);
         },
     .has_source = has_accounts},
    {.name = "pangolin_ui_active_sessions",
     .type = MetricType::gauge,
     .help = "Users' sessions with the dashboard that have not expired.",
     .source = "DA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto& accounts = view.snapshot().accounts)
                 samples.add({}, accounts->user_sessions);
         },
     .has_source = has_accounts},
    {.name = "pangolin_db_pool_connections",
     .type = MetricType::gauge,
     .labels = {"state"},
     .help = "Pangolin's connections to its database: active in a query or transaction, or idle.",
     .source = "DFA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto& connections = connections_of(view.snapshot())) {
                 samples.add({"active"}, connections->active);
                 samples.add({"idle"}, connections->idle);
             }
         },
     .has_source = [](const Snapshot& snapshot) { return connections_of(snapshot).has_value(); }},
    {.name = "pangolin_db_wait_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .help =
         "Time that Pangolin waited for its database: SQLite's locks and disk, or PostgreSQL from what was "
         "sent to the answer's end.",
     .source = "KA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto seconds = view.snapshot().host.database_wait_seconds)
                 samples.add({}, *seconds);
         },
     .has_source = [](const Snapshot& snapshot) { return snapshot.host.database_wait_seconds.has_value(); }},
});

}  // namespace

bool has_accounts(const Snapshot& snapshot) {
    return snapshot.accounts != nullptr;
}

bool emit_issued_sessions(const SnapshotView& view, Samples& samples) {
    if (const auto& accounts = view.snapshot().accounts)
        emit_all(samples, auth_method_names, accounts->issued);
    return view.snapshot().reads_accounts;
}

bool emit_ended_sessions(const SnapshotView& view, Samples& samples) {
    if (const auto& accounts = view.snapshot().accounts)
        emit_all(samples, session_end_names, accounts->ended);
    return view.snapshot().reads_accounts;
}

bool emit_prolonged_sessions(const SnapshotView& view, Samples& samples) {
    if (const auto& accounts = view.snapshot().accounts)
        samples.add({"success"}, accounts->refreshed);
    return view.snapshot().reads_accounts;
}

std::span<const Metric> account_rows() {
    return rows;
}

}  // namespace pangolin
