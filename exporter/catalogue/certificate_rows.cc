#include <chrono>
#include <map>
#include <set>

#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

// Below zero once it has expired.
double days_left(const Certificate& certificate, const Snapshot& snapshot) {
    constexpr double seconds_a_day = 86400;
    const double now = std::chrono::duration<double>(snapshot.time.time_since_epoch()).count();
    return (static_cast<double>(certificate.not_after) - now) / seconds_a_day;
}

void emit_expiry(const SnapshotView& view, Samples& samples) {
    if (const auto& book = view.snapshot().certificates.book)
        for (const Certificate* const certificate : book->by_domain())
            samples.add({certificate->domain}, days_left(*certificate, view.snapshot()));
}

// Every event of a domain is there from the start, so that its first increase is seen.
void emit_events(const SnapshotView& view, Samples& samples) {
    static constexpr std::array<std::string_view, certificate_events> names{"issued", "renewed", "removed",
                                                                            "failed"};
    if (const auto& events = view.snapshot().certificates.events)
        for (const auto& [domain, counts] : *events)
            for (std::size_t event = 0; event < names.size(); ++event)
                samples.add({domain, names[event]}, counts[event]);
}

// A resource with targets at several sites is a series of each. One without a site has the unassigned one's
// label, so that its certificate is watched as well.
void emit_resources(const SnapshotView& view, Samples& samples) {
    const auto& book = view.snapshot().certificates.book;
    if (!book || !view.snapshot().directory)
        return;
    const SiteDirectory& directory = *view.snapshot().directory;
    std::map<std::size_t, std::set<std::string_view>> sites;
    for (const Target& target : directory.targets)
        if (target.enabled && target.site)
            sites[target.resource].insert(directory.sites[*target.site].site_id);
    for (std::size_t place = 0; place < directory.resources.size(); ++place) {
        const Resource& resource = directory.resources[place];
        if (!resource.ssl || !resource.enabled || resource.domain.empty())
            continue;
        const Certificate* const certificate = book->find(resource.domain);
        if (certificate == nullptr)
            continue;
        const double days = days_left(*certificate, view.snapshot());
        const auto served = sites.find(place);
        if (served == sites.end())
            samples.add({unassigned_site_id, resource.resource_id}, days);
        else
            for (const std::string_view site_id : served->second)
                samples.add({site_id, resource.resource_id}, days);
    }
}

bool has_certificates(const Snapshot& snapshot) {
    return snapshot.certificates.book != nullptr;
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_certificates_expiry_days",
     .type = MetricType::gauge,
     .unit = "days",
     .labels = {"site_id", "resource_id"},
     .help = "Days until the certificate expires that a resource is served with; below zero afterwards.",
     .source = "FD",
     .emit = emit_resources,
     .has_source = has_certificates},
    {.name = "pangolin_acme_cert_expiry_days",
     .type = MetricType::gauge,
     .unit = "days",
     .labels = {"domain"},
     .help = "Days until the certificate for a domain expires, of several the last; below zero afterwards.",
     .source = "FD",
     .emit = emit_expiry,
     .has_source = has_certificates},
    {.name = "pangolin_acme_cert_events_total",
     .type = MetricType::counter,
     .labels = {"domain", "event"},
     .help = "Certificates issued, renewed and removed since the exporter's start, and attempts that failed.",
     .source = "FD",
     .emit = emit_events,
     .has_source = has_certificates},
});

}  // namespace

std::span<const Metric> certificate_rows() {
    return rows;
}

}  // namespace pangolin
