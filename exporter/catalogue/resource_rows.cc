#include "exporter/catalogue/rows.h"

#include <set>
#include <string>

namespace pangolin {
namespace {

void emit_resource_info(const SnapshotView& view, Samples& samples) {
    if (!view.snapshot().directory)
        return;
    for (const Resource& resource : view.snapshot().directory->resources)
        samples.add(
            {resource.resource_id, resource.name, resource.organisation, resource.domain, resource.protocol},
            std::uint64_t{1});
}

// Targets that differ only in the path that leads to them are one series.
void emit_backend_info(const SnapshotView& view, Samples& samples) {
    if (!view.snapshot().directory)
        return;
    const SiteDirectory& directory = *view.snapshot().directory;
    std::set<std::array<std::string, 4>> series;
    for (const Target& target : directory.targets)
        if (target.enabled && target.dialled)
            series.insert({target.dialled->to_string(),
                           target.site ? directory.sites[*target.site].site_id : "",
                           directory.resources[target.resource].resource_id,
                           target.real ? target.real->to_string() : ""});
    for (const auto& [backend, site_id, resource_id, real] : series)
        samples.add({backend, site_id, resource_id, real}, std::uint64_t{1});
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_resource_info",
     .type = MetricType::info,
     .labels = {"resource_id", "name", "org", "domain", "protocol"},
     .help = "Names of a resource, to join by resource_id.",
     .source = "D",
     .emit = emit_resource_info},
    {.name = "pangolin_backend_info",
     .type = MetricType::info,
     .labels = {"backend", "site_id", "resource_id", "target"},
     .help = "What Traefik dials for a resource at a site, and the target behind it as the site sees it.",
     .source = "D",
     .emit = emit_backend_info},
});

}  // namespace

std::span<const Metric> resource_rows() {
    return rows;
}

}  // namespace pangolin
