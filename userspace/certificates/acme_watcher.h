// Follows acme.json while Traefik writes to it.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "loader/base/error.h"
#include "loader/files.h"
#include "userspace/certificates/certificate_ledger.h"
#include "userspace/folder_watch.h"
#include "userspace/source_state.h"

namespace pangolin {

// Traefik rewrites the file in place, others replace it by a rename, and for a moment it may be empty, half
// written or absent: what was read last holds until that has lasted some seconds. inotify tells of changes
// at once; where it does not (network file systems, a folder that comes later), a look every 10 s does.
//
// A thread of its own between start() and destruction.
class AcmeWatcher {
  public:
    // `ledger` must outlive it.
    AcmeWatcher(std::string path, CertificateLedger& ledger);
    AcmeWatcher(const AcmeWatcher&) = delete;
    AcmeWatcher& operator=(const AcmeWatcher&) = delete;
    ~AcmeWatcher();

    // Looks once, and then from the thread.
    void start();
    // The number of certificates in the file, or why it cannot be read: what `check` says.
    static Result<std::size_t> inspect(const std::string& path);
    // Source "acme". From any thread.
    SourceStatus status() const;

  private:
    class Content;

    void run(const std::stop_token& stop);
    // Until when the next look can wait if nothing is heard.
    std::chrono::milliseconds look();
    std::chrono::milliseconds unsettled(const Error& error, const std::optional<FileSignature>& signature);
    void accept(std::vector<Certificate> certificates, const std::vector<std::string>& problems);

    const std::string path_;
    CertificateLedger& ledger_;
    FolderWatch folder_;
    bool is_watching_ = false;
    // What was last judged, and need not be read again.
    std::optional<FileSignature> judged_;
    // Since when the file has been in a state that should pass.
    std::optional<std::chrono::steady_clock::time_point> unsettled_since_;
    bool has_word_ = false;
    std::vector<std::string> problems_;
    mutable std::mutex state_mutex_;
    SourceState state_{"acme"};
    std::jthread thread_;
};

}  // namespace pangolin
