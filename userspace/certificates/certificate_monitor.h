// Certificates as a part of the snapshot.
#pragma once

#include <memory>
#include <string>

#include "userspace/certificates/acme_watcher.h"
#include "userspace/certificates/certificate_ledger.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

class CertificateMonitor final : public SnapshotPart {
  public:
    // `acme` is the path of Traefik's acme.json; empty: it is not used.
    explicit CertificateMonitor(const std::string& acme);

    // Where the rows of Pangolin's table go.
    CertificateLedger& ledger() { return ledger_; }

    void start() override;
    void describe(Snapshot& snapshot) const override;
    std::string_view kept_as() const override { return "certificates"; }
    void save(ArchiveWriter& writer) const override { ledger_.save(writer); }
    void restore(ArchiveReader& reader) override { ledger_.restore(reader); }

  private:
    CertificateLedger ledger_;
    std::unique_ptr<AcmeWatcher> watcher_;
};

}  // namespace pangolin
