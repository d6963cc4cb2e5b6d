// Certificates from both sources as one, and what happened to them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "userspace/certificates/certificate.h"
#include "userspace/certificates/certificate_snapshot.h"
#include "userspace/state/archive.h"

namespace pangolin {

// A row of Pangolin's table `certificates`, which it fills from acme.json (since 1.22.0, the Enterprise
// Edition since 1.18.0) or by itself.
struct CertificateRow {
    std::string domain;
    // Valid for all names one label below `domain`, too.
    bool wildcard = false;
    // "pending", "requested", "valid", "expired" or "failed".
    std::string status;
    // Unix seconds.
    std::optional<std::int64_t> expires_at;
    std::int64_t last_renewal_attempt = 0;
};

// Where both sources know a domain, acme.json's word counts. What a source says first is how things are;
// what differs later is an event. A source that cannot be read for a while is compared with its last word.
// Thread-safe.
class CertificateLedger {
  public:
    void set_file(std::vector<Certificate> certificates);
    // acme.json cannot be read: what it said is no longer published. When it is `absent` at first, there are
    // no certificates yet, and what comes later is new.
    void lose_file(bool absent);
    void set_rows(const std::vector<CertificateRow>& rows);
    void lose_rows();

    CertificateSnapshot snapshot() const;

    // Events, and the last word of each source: what changes until the next process begins is an event of
    // that.
    void save(ArchiveWriter& writer) const;
    void restore(ArchiveReader& reader);

  private:
    using Identities = std::map<std::string, std::array<std::uint8_t, 32>>;
    struct Source {
        bool readable = false;
        bool read_once = false;
        std::vector<Certificate> certificates;
        Identities identities;
    };
    struct Failure {
        bool failed = false;
        std::int64_t attempt = 0;
    };
    template <class Archive>
    friend void fields(Archive& archive, Failure& failure);

    void set(Source& source, std::vector<Certificate> certificates, const Source* owner);
    void count_failures(const std::vector<CertificateRow>& rows);
    void count(const std::string& domain, CertificateEvent event);
    void know(const std::string& domain);
    // After any change, under the lock.
    void publish();

    mutable std::mutex mutex_;
    Source file_;
    Source rows_;
    std::map<std::string, Failure> failures_;
    CertificateEventCounts events_;
    CertificateSnapshot published_;
    bool limited_ = false;
};

}  // namespace pangolin
