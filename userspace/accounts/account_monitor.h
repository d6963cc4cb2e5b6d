// Sessions, blueprints, certificates and connections as Pangolin's database has them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "userspace/accounts/account_snapshot.h"
#include "userspace/accounts/session_ledger.h"
#include "userspace/accounts/session_table.h"
#include "userspace/certificates/certificate_monitor.h"
#include "userspace/metadata/database_reading.h"
#include "userspace/snapshot_part.h"
#include "userspace/source_state.h"

namespace pangolin {

// A DatabaseReading of the thread that reads the directory, and a part of the snapshot, source "accounts".
class AccountMonitor final : public SnapshotPart, public DatabaseReading {
  public:
    // So many times as long as reading sessions took passes before they are read again: that they are many
    // costs at most 1 % of a processor's time, and less than 1 % of Pangolin's commits meet it.
    static constexpr int usual_pause = 100;

    // Rows of the table `certificates` go to the ledger of `certificates`, if it is not null.
    explicit AccountMonitor(std::shared_ptr<CertificateMonitor> certificates, int pause = usual_pause);

    void start() override {}
    void describe(Snapshot& snapshot) const override;
    // Sessions themselves are not kept, they are people's: those that come or go until the next process
    // begins are not counted.
    std::string_view kept_as() const override { return "accounts"; }
    void save(ArchiveWriter& writer) const override;
    void restore(ArchiveReader& reader) override;

    bool read(Database& database, const Schema& schema) override;
    void unavailable(const Error& error) override;

  private:
    void lose_counts();
    Result<void> read_sessions(Database& database, const Schema& schema);
    Result<void> read_blueprints(Database& database, const Schema& schema);
    Result<void> read_certificates(Database& database, const Schema& schema);
    Result<void> read_connections(Database& database, const Schema& schema);

    const std::shared_ptr<CertificateMonitor> certificates_;
    const int pause_;
    SessionReader sessions_;
    SessionLedger ledger_;
    std::chrono::steady_clock::time_point next_sessions_;
    // The last row of `blueprints` that was seen.
    std::optional<std::int64_t> last_blueprint_;
    AccountCounts counts_;

    mutable std::mutex mutex_;
    // Null while the database cannot be read.
    std::shared_ptr<const AccountCounts> published_;
    // The last ones that were known.
    std::optional<BlueprintCounts> blueprints_;
    // As of the last reading that succeeded.
    AccountCounts kept_counts_;
    std::optional<std::int64_t> kept_last_blueprint_;
    SourceState state_{"accounts"};
};

}  // namespace pangolin
