#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/traefik_api.h"

namespace pangolin {
namespace {

// The site whose narrowest tunnel network the address lies in.
std::optional<std::uint32_t> site_of(const TargetAddress& target, const std::vector<Site>& sites) {
    std::optional<std::uint32_t> best;
    std::uint8_t best_length = 0;
    for (std::uint32_t i = 0; target.address && i < sites.size(); ++i)
        for (const IpPrefix& network : sites[i].tunnel)
            if (network.contains(*target.address) && (!best || network.length > best_length)) {
                best = i;
                best_length = network.length;
            }
    return best;
}

Resource resource_of(const TraefikService& service) {
    Resource resource;
    resource.resource_id = std::to_string(service.resource_id);
    resource.number = service.resource_id;
    resource.name = service.name.empty() ? resource.resource_id : service.name;
    resource.domain = service.domain;
    resource.protocol = service.protocol;
    resource.ssl = service.ssl;
    resource.proxy_port = service.proxy_port;
    return resource;
}

// Adds resources and targets to the sites of `directory`.
void add_services(const std::vector<TraefikService>& services, SiteDirectory& directory) {
    std::map<std::string, std::uint32_t> places;
    for (const TraefikService& service : services)
        places.emplace(std::to_string(service.resource_id), 0);
    std::uint32_t next = 0;
    for (auto& [label, place] : places)
        place = next++;
    directory.resources.resize(places.size());
    for (const TraefikService& service : services) {
        const std::uint32_t place = places.at(std::to_string(service.resource_id));
        Resource& resource = directory.resources[place];
        if (resource.resource_id.empty())
            resource = resource_of(service);
        for (const TraefikService::Server& server : service.servers) {
            Target target;
            target.resource = place;
            target.site = site_of(server.address, directory.sites);
            target.dialled = server.address;
            // What is dialled outside of all tunnels is the target itself.
            if (!target.site)
                target.real = server.address;
            target.method = server.method;
            target.path = service.path;
            target.path_match = service.path_match;
            directory.targets.push_back(std::move(target));
        }
    }
    std::ranges::stable_sort(directory.targets, {}, &Target::resource);
}

class TraefikSiteSource final : public SiteSource {
  public:
    TraefikSiteSource(const std::string& url, std::unique_ptr<SiteSource> sites)
        : server_(HttpEndpoint::parse(url)), sites_(std::move(sites)) {}

    std::string_view name() const override { return sites_ ? sites_->name() : "traefik"; }

    Result<SiteDirectory> read() override {
        Result<SiteDirectory> directory = sites_ ? sites_->read() : SiteDirectory{};
        if (!directory || !directory->resources.empty())
            return directory;
        Result<std::vector<TraefikService>> services;
        if (server_)
            services = read_traefik_services(*server_);
        else
            services = std::unexpected(server_.error());
        if (!services && !sites_)
            return std::unexpected(services.error());
        note(services);
        if (services)
            last_services_ = std::move(*services);
        add_services(last_services_, *directory);
        return directory;
    }

  private:
    // The source of the sites has the name, so Traefik's failures can only be logged.
    void note(const Result<std::vector<TraefikService>>& services) {
        const std::string error = services ? "" : services.error().message();
        if (!error.empty() && last_error_.empty())
            spdlog::warn("resources: {}", error);
        else if (error.empty() && !last_error_.empty())
            spdlog::info("resources: Traefik's API can be read again");
        last_error_ = error;
    }

    Result<HttpEndpoint> server_;
    std::unique_ptr<SiteSource> sites_;
    std::vector<TraefikService> last_services_;
    std::string last_error_;
};

}  // namespace

std::unique_ptr<SiteSource> make_traefik_site_source(const std::string& url,
                                                     std::unique_ptr<SiteSource> sites) {
    return std::make_unique<TraefikSiteSource>(url, std::move(sites));
}

}  // namespace pangolin
