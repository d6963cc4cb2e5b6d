#include "exporter/site_source.h"

namespace pangolin {
namespace {

class PostgresSiteSource final : public SiteSource {
  public:
    std::string_view name() const override { return "postgres"; }
    Result<SiteDirectory> read() override {
        return failure("Pangolin's PostgreSQL database cannot be read by this version",
                       "List the sites in a sites.yml and name it in metrics.metadata.sites_file.");
    }
};

}  // namespace

std::unique_ptr<SiteSource> make_site_source(const MetadataConfiguration& metadata) {
    switch (metadata.kind) {
        case MetadataKind::sites_file:
            return make_sites_file_source(metadata.sites_file);
        case MetadataKind::postgres:
            return std::make_unique<PostgresSiteSource>();
        case MetadataKind::sqlite:
            break;
    }
    return make_sqlite_site_source(metadata.sqlite, metadata.site_label);
}

}  // namespace pangolin
