#include "userspace/certificates/certificate_ledger.h"

#include <openssl/sha.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace pangolin {
namespace {

// Nothing else of a row changes with each renewal and only with it.
std::array<std::uint8_t, 32> identity_of(const CertificateRow& row) {
    const std::string text = row.expires_at ? std::to_string(*row.expires_at) : "";
    std::array<std::uint8_t, 32> identity{};
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), identity.data());
    return identity;
}

// None for a row without a certificate: one that was only asked for.
std::optional<Certificate> certificate_of(const CertificateRow& row) {
    Certificate certificate;
    certificate.domain = normal_host_name(row.domain);
    if (certificate.domain.empty() || !row.expires_at || *row.expires_at <= 0)
        return std::nullopt;
    certificate.names.push_back(certificate.domain);
    if (row.wildcard && !certificate.domain.starts_with('*'))
        certificate.names.push_back("*." + certificate.domain);
    certificate.not_after = *row.expires_at;
    certificate.identity = identity_of(row);
    return certificate;
}

}  // namespace

void CertificateLedger::set_file(std::vector<Certificate> certificates) {
    const std::lock_guard lock(mutex_);
    set(file_, std::move(certificates), nullptr);
    publish();
}

void CertificateLedger::lose_file(bool absent) {
    const std::lock_guard lock(mutex_);
    file_.readable = false;
    file_.read_once |= absent;
    publish();
}

void CertificateLedger::set_rows(const std::vector<CertificateRow>& rows) {
    std::vector<Certificate> certificates;
    for (const CertificateRow& row : rows)
        if (auto certificate = certificate_of(row))
            certificates.push_back(std::move(*certificate));
    const std::lock_guard lock(mutex_);
    count_failures(rows);
    set(rows_, std::move(certificates), &file_);
    publish();
}

void CertificateLedger::lose_rows() {
    const std::lock_guard lock(mutex_);
    rows_.readable = false;
    publish();
}

CertificateSnapshot CertificateLedger::snapshot() const {
    const std::lock_guard lock(mutex_);
    return published_;
}

template <class Archive>
void fields(Archive& archive, CertificateLedger::Failure& failure) {
    archive(failure.failed, failure.attempt);
}

void CertificateLedger::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    writer(events_, file_.read_once, file_.identities, rows_.read_once, rows_.identities, failures_);
}

void CertificateLedger::restore(ArchiveReader& reader) {
    CertificateEventCounts events;
    Source file;
    Source rows;
    std::map<std::string, Failure> failures;
    reader(events, file.read_once, file.identities, rows.read_once, rows.identities, failures);
    if (!reader.ok())
        return;
    const std::lock_guard lock(mutex_);
    events_ = std::move(events);
    file_ = std::move(file);
    rows_ = std::move(rows);
    failures_ = std::move(failures);
}

// Events of a domain that `owner` knows are the owner's to tell.
void CertificateLedger::set(Source& source, std::vector<Certificate> certificates, const Source* owner) {
    Identities identities;
    std::map<std::string, std::int64_t> ends;
    for (const Certificate& certificate : certificates) {
        const auto [end, is_first] = ends.try_emplace(certificate.domain, certificate.not_after);
        if (is_first || certificate.not_after > end->second) {
            end->second = certificate.not_after;
            identities[certificate.domain] = certificate.identity;
        }
    }
    const auto is_owned = [&](const std::string& domain) {
        return owner != nullptr && owner->identities.contains(domain);
    };
    for (const auto& [domain, identity] : identities) {
        if (is_owned(domain))
            continue;
        know(domain);
        if (!source.read_once)
            continue;
        const auto before = source.identities.find(domain);
        if (before == source.identities.end())
            count(domain, CertificateEvent::issued);
        else if (before->second != identity)
            count(domain, CertificateEvent::renewed);
    }
    for (const auto& [domain, identity] : source.identities)
        if (!identities.contains(domain) && !is_owned(domain))
            count(domain, CertificateEvent::removed);
    source.identities = std::move(identities);
    source.certificates = std::move(certificates);
    source.readable = true;
    source.read_once = true;
}

// Only Pangolin's table tells of certificates that could not be had.
void CertificateLedger::count_failures(const std::vector<CertificateRow>& rows) {
    std::map<std::string, Failure> failures;
    for (const CertificateRow& row : rows) {
        const std::string domain = normal_host_name(row.domain);
        if (domain.empty())
            continue;
        const Failure now{row.status == "failed", row.last_renewal_attempt};
        if (now.failed)
            know(domain);
        const auto before = failures_.find(domain);
        const bool is_news =
            before == failures_.end() || !before->second.failed || before->second.attempt != now.attempt;
        if (now.failed && is_news && rows_.read_once)
            count(domain, CertificateEvent::failed);
        failures.emplace(domain, now);
    }
    failures_ = std::move(failures);
}

void CertificateLedger::know(const std::string& domain) {
    if (events_.size() < most_certificate_domains)
        events_.try_emplace(domain);
}

void CertificateLedger::count(const std::string& domain, CertificateEvent event) {
    know(domain);
    const auto found = events_.find(domain);
    auto& counts = found != events_.end() ? found->second : events_[other_domains];
    ++counts[static_cast<std::size_t>(event)];
}

void CertificateLedger::publish() {
    published_ = {};
    if (!file_.readable && !rows_.readable)
        return;
    std::vector<Certificate> certificates;
    if (file_.readable)
        certificates = file_.certificates;
    if (rows_.readable)
        std::ranges::copy_if(rows_.certificates, std::back_inserter(certificates),
                             [&](const Certificate& certificate) {
                                 return !file_.readable || !file_.identities.contains(certificate.domain);
                             });
    if (certificates.size() > most_certificate_domains) {
        if (!limited_)
            spdlog::warn("there are {} certificates; only {} are published", certificates.size(),
                         most_certificate_domains);
        limited_ = true;
        published_.left_out = certificates.size() - most_certificate_domains;
        certificates.resize(most_certificate_domains);
    }
    published_.book = std::make_shared<const CertificateBook>(std::move(certificates));
    published_.events = std::make_shared<const CertificateEventCounts>(events_);
}

}  // namespace pangolin
