// What reading Pangolin's database costs: the exporter, and Pangolin, whose commits wait for readers of
// SQLite.
//
// 1,000 sites, 1,000 resources, 5,000 targets with health checks, 200 clients. The writer commits small
// updates as fast as it can, as better-sqlite3 does (rollback journal, synchronous=FULL, a busy timeout of 5
// s), while nobody reads, while the source is read every second (the least refresh; the default is 10 s), and
// without pause. The same beside a reader of 300,000 sessions, which must not delay the 99th percentile by
// more than 5 ms as the exporter reads them.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/pangolin_database.h"
#include "tests/support/postgres_server.h"
#include "tests/support/scratch_folder.h"
#include "userspace/accounts/account_monitor.h"
#include "userspace/accounts/session_table.h"
#include "userspace/metadata/database_reading.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

constexpr int sites = 1000;
constexpr int targets_of_resource = 5;
constexpr int clients = 200;
constexpr int sessions = 300'000;
constexpr int readings = 21;
constexpr auto writing_time = std::chrono::seconds(6);
constexpr auto writing_interval = std::chrono::milliseconds(1);

std::string rows(const PangolinSchema& schema) {
    std::string sql = "BEGIN;" + schema.beginning();
    const std::string text = "'A name of usual length'";
    for (int i = 1; i <= sites; ++i) {
        const std::string id = std::to_string(i);
        const std::string subnet = fmt::format("'100.{}.{}.{}/30'", 89 + i / 16384, i / 64 % 256, i % 64 * 4);
        sql += schema.insert("sites", {{"siteId", id},
                                       {"orgId", "'home'"},
                                       {"niceId", fmt::format("'brave-otter-{}'", i)},
                                       {"exitNode", "1"},
                                       {"name", text},
                                       {"pubKey", "'pBvwk95hj7F8QPTpw/d/oQ+LQYcwWHEOTixoj9O1XEA='"},
                                       {"exitNodeSubnet", subnet},
                                       {"type", "'newt'"},
                                       {"online", "TRUE"},
                                       {"listenPort", "51820"}});
        sql += schema.insert("resources", {{"resourceId", id},
                                           {"resourceGuid", "'guid'"},
                                           {"orgId", "'home'"},
                                           {"niceId", fmt::format("'quick-fox-{}'", i)},
                                           {"name", text},
                                           {"fullDomain", fmt::format("'app{}.example.com'", i)},
                                           {"ssl", "TRUE"},
                                           {"mode", "'http'"}});
        for (int j = 0; j < targets_of_resource; ++j) {
            const std::string target = std::to_string((i - 1) * targets_of_resource + j + 1);
            sql += schema.insert("targets", {{"targetId", target},
                                             {"resourceId", id},
                                             {"siteId", std::to_string((i + j) % sites + 1)},
                                             {"ip", "'192.168.1.20'"},
                                             {"port", "8080"},
                                             {"internalPort", std::to_string(40000 + j)},
                                             {"method", "'http'"},
                                             {"enabled", "TRUE"}});
            sql += schema.insert("targetHealthCheck", {{"targetHealthCheckId", target},
                                                       {"targetId", target},
                                                       {"hcEnabled", "TRUE"},
                                                       {"hcHealth", "'healthy'"}});
        }
    }
    for (int i = 1; i <= clients; ++i)
        sql += schema.insert("clients", {{"clientId", std::to_string(i)},
                                         {"orgId", "'home'"},
                                         {"niceId", fmt::format("'laptop-{}'", i)},
                                         {"name", text},
                                         {"subnet", "'100.90.128.7/24'"},
                                         {"type", "'olm'"}});
    return sql + "COMMIT;";
}

double percentile(std::vector<double> values, double part) {
    if (values.empty())
        return 0;
    const auto at = static_cast<std::ptrdiff_t>(part * static_cast<double>(values.size() - 1));
    std::ranges::nth_element(values, values.begin() + at);
    return values[static_cast<std::size_t>(at)];
}

std::string session_rows(const PangolinSchema& schema) {
    std::string sql = "BEGIN;";
    for (int i = 0; i < sessions; ++i)
        sql += schema.insert("session", {{"id", fmt::format("'{:064x}'", i * 0x9e3779b97f4a7c15ULL)},
                                         {"userId", fmt::format("'user-{:011}'", i % 5000)},
                                         {"expiresAt", "4102444800000"},
                                         {"deviceAuthUsed", "FALSE"}});
    return sql + "COMMIT;";
}

// Reads all sessions each time; the exporter pauses for 100 times as long.
class SessionSweep final : public DatabaseReading {
  public:
    bool read(Database& database, const Schema& schema) override {
        const auto start = Clock::now();
        const auto found = reader_.read(database, schema, SessionKind::user, 0);
        times.push_back(Milliseconds(Clock::now() - start).count());
        complete &= found && found->size() == static_cast<std::size_t>(sessions);
        return found.has_value();
    }
    void unavailable(const Error&) override { complete = false; }

    std::vector<double> times;
    bool complete = true;

  private:
    SessionReader reader_;
};

bool time_readings(SiteSource& source) {
    std::vector<double> times;
    for (int i = 0; i <= readings; ++i) {
        const auto start = Clock::now();
        const auto directory = source.read();
        if (!directory) {
            fmt::print("{}: {}\n", source.name(), directory.error().message());
            return false;
        }
        // The first reading opens the database.
        if (i > 0)
            times.push_back(Milliseconds(Clock::now() - start).count());
        if (directory->targets.size() != static_cast<std::size_t>(sites) * targets_of_resource ||
            directory->sites.size() != sites)
            return false;
    }
    fmt::print("metadata_read source={} sites={} resources={} targets={} median_ms={:.1f} worst_ms={:.1f}\n",
               source.name(), sites, sites, sites * targets_of_resource, percentile(times, 0.5),
               percentile(times, 1));
    return true;
}

struct Writing {
    std::vector<double> latencies;
    unsigned failures = 0;
};

Writing write(const std::string& path) {
    Writing result;
    DatabaseWriter writer(path);
    writer.must("PRAGMA busy_timeout=5000; PRAGMA synchronous=FULL");
    const auto end = Clock::now() + writing_time;
    for (int i = 0; Clock::now() < end; ++i) {
        const auto start = Clock::now();
        result.failures += writer.run(fmt::format(R"(UPDATE "sites" SET "lastPing" = {} WHERE "siteId" = {})",
                                                  i, i % sites + 1)) == SQLITE_OK
                               ? 0
                               : 1;
        result.latencies.push_back(Milliseconds(Clock::now() - start).count());
        std::this_thread::sleep_for(writing_interval);
    }
    return result;
}

// Reads every `pause` while the writer writes; never with a negative one.
Writing write_beside_reader(const std::string& path, SiteSource& source, std::chrono::milliseconds pause,
                            std::string_view name) {
    std::atomic<bool> stop = false;
    unsigned read = 0;
    unsigned failed = 0;
    std::thread reader([&] {
        while (!stop && pause >= std::chrono::milliseconds(0)) {
            ++(source.read() ? read : failed);
            const auto next = Clock::now() + pause;
            while (!stop && Clock::now() < next)
                std::this_thread::sleep_for(std::min(pause, std::chrono::milliseconds(20)));
        }
    });
    Writing writing = write(path);
    stop = true;
    reader.join();
    fmt::print(
        "metadata_writer reader={} commits={} failures={} median_ms={:.2f} p99_ms={:.2f} worst_ms={:.1f} "
        "readings={} readings_failed={}\n",
        name, writing.latencies.size(), writing.failures, percentile(writing.latencies, 0.5),
        percentile(writing.latencies, 0.99), percentile(writing.latencies, 1), read, failed);
    return writing;
}

void print_sessions(const SessionSweep& sweep, std::string_view source) {
    fmt::print("metadata_sessions source={} sessions={} sweeps={} median_ms={:.1f} worst_ms={:.1f}\n", source,
               sessions, sweep.times.size(), percentile(sweep.times, 0.5), percentile(sweep.times, 1));
}

bool bench_sessions(const std::string& path) {
    DatabaseWriter(path).must(session_rows(PangolinSchema("1.22.0")));
    const auto sweep = std::make_shared<SessionSweep>();
    const auto source = make_sqlite_site_source(path, SiteLabel::nice_id, sweep);
    using std::chrono::milliseconds;
    const Writing alone = write_beside_reader(path, *source, milliseconds(-1), "none");
    const double base = percentile(alone.latencies, 0.99);
    const Writing worst = write_beside_reader(path, *source, milliseconds(0), "sessions_without_pause");
    fmt::print("metadata_writer_delay reader=sessions_without_pause p99_ms={:.2f}\n",
               percentile(worst.latencies, 0.99) - base);
    print_sessions(*sweep, "sqlite");
    // As the exporter reads them at the least refresh: once in these seconds, then it pauses.
    const auto usual =
        make_sqlite_site_source(path, SiteLabel::nice_id, std::make_shared<AccountMonitor>(nullptr));
    const Writing beside = write_beside_reader(path, *usual, milliseconds(1000), "sessions");
    const double delay = percentile(beside.latencies, 0.99) - base;
    fmt::print("metadata_writer_delay reader=sessions p99_ms={:.2f}\n", delay);
    constexpr double greatest_delay = 5;
    return worst.failures + beside.failures == 0 && sweep->complete && delay < greatest_delay;
}

int run() {
    if (std::filesystem::is_directory("/dev/shm"))
        ::setenv("TMPDIR", "/dev/shm", 0);
    const ScratchFolder folder;
    const std::string path = folder.path("db.sqlite");
    DatabaseWriter(path).must(PangolinSchema("1.22.0").tables() + rows(PangolinSchema("1.22.0")));
    const auto source = make_sqlite_site_source(path, SiteLabel::nice_id);
    bool good = time_readings(*source);

    using std::chrono::milliseconds;
    const Writing alone = write_beside_reader(path, *source, milliseconds(-1), "none");
    const double base = percentile(alone.latencies, 0.99);
    for (const auto& [pause, name] :
         {std::pair(milliseconds(1000), "every_second"), {milliseconds(0), "without_pause"}}) {
        const Writing beside = write_beside_reader(path, *source, pause, name);
        fmt::print("metadata_writer_delay reader={} p99_ms={:.2f}\n", name,
                   percentile(beside.latencies, 0.99) - base);
        good &= beside.failures == 0;
    }

    good &= bench_sessions(path);

    if (const auto server = PostgresServer::start()) {
        const PangolinSchema schema("1.22.0", Dialect::postgres);
        server->must(schema.tables() + rows(schema));
        good &= time_readings(*make_postgres_site_source(server->connection_string(), SiteLabel::nice_id));
        server->must(session_rows(schema));
        const auto sweep = std::make_shared<SessionSweep>();
        const auto source = make_postgres_site_source(server->connection_string(), SiteLabel::nice_id, sweep);
        for (int i = 0; i < readings; ++i)
            good &= source->read().has_value();
        print_sessions(*sweep, "postgres");
        good &= sweep->complete;
    } else {
        fmt::print("PostgreSQL is not installed\n");
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace pangolin::bench

int main() {
    return pangolin::bench::run();
}
