#include "userspace/certificates/certificate_monitor.h"

namespace pangolin {

CertificateMonitor::CertificateMonitor(const std::string& acme)
    : watcher_(acme.empty() ? nullptr : std::make_unique<AcmeWatcher>(acme, ledger_)) {}

void CertificateMonitor::start() {
    if (watcher_)
        watcher_->start();
}

void CertificateMonitor::describe(Snapshot& snapshot) const {
    snapshot.certificates = ledger_.snapshot();
    if (watcher_)
        snapshot.sources.push_back(watcher_->status());
}

}  // namespace pangolin
