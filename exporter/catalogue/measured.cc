#include <algorithm>
#include <array>

#include "exporter/catalogue.h"

namespace pangolin {
namespace {

bool is_up(const Snapshot& snapshot, std::string_view source) {
    return std::ranges::any_of(
        snapshot.sources, [&](const SourceStatus& status) { return status.up && status.name == source; });
}

bool is_enabled(const Snapshot& snapshot, std::string_view feature) {
    return std::ranges::any_of(snapshot.features, [&](const FeatureStatus& status) {
        return status.enabled && status.name == feature;
    });
}

// HTTP is looked into between Traefik and targets wherever the kernel takes the programs; of Pangolin's own
// services only where there is a Pangolin.
bool offers_http(const Metric& row, const Snapshot& snapshot) {
    if (!is_enabled(snapshot, "http"))
        return false;
    const bool of_pangolin =
        std::holds_alternative<EmitSnapshot>(row.emit) || std::holds_alternative<EmitSite>(row.emit);
    return !of_pangolin || is_up(snapshot, "pangolin");
}

bool offers(char letter, const Metric& row, const Snapshot& snapshot) {
    switch (letter) {
        case 'K':
            return is_up(snapshot, "kernel");
        case 'W':
            return is_up(snapshot, "wireguard");
        case 'H':
            return offers_http(row, snapshot);
        case 'D':
            return std::ranges::any_of(
                std::to_array<std::string_view>({"sqlite", "postgres", "sites_file", "traefik"}),
                [&](std::string_view source) { return is_up(snapshot, source); });
        case 'S':
            return true;
        default:
            return false;
    }
}

}  // namespace

bool is_measured(const Metric& row, const Snapshot& snapshot) {
    if (row.has_source != nullptr)
        return row.has_source(snapshot);
    return std::ranges::any_of(row.source, [&](char letter) { return offers(letter, row, snapshot); });
}

}  // namespace pangolin
