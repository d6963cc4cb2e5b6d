#include "exporter/site_source.h"

#include <utility>

namespace pangolin {

std::unique_ptr<SiteSource> make_site_source(const MetadataConfiguration& metadata,
                                             const TraefikConfiguration& traefik,
                                             std::shared_ptr<DatabaseReading> also) {
    switch (metadata.kind) {
        case MetadataKind::sites_file: {
            auto sites = make_sites_file_source(metadata.sites_file);
            return traefik.api.empty() ? std::move(sites)
                                       : make_traefik_site_source(traefik.api, std::move(sites));
        }
        case MetadataKind::postgres:
            return make_postgres_site_source(metadata.postgres, metadata.site_label, std::move(also));
        case MetadataKind::traefik:
            return make_traefik_site_source(traefik.api);
        case MetadataKind::sqlite:
            break;
    }
    return make_sqlite_site_source(metadata.sqlite, metadata.site_label, std::move(also));
}

}  // namespace pangolin
