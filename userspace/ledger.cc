#include "userspace/ledger.h"

#include <set>
#include <vector>

namespace pangolin {
namespace {

// The labels of accounts that a directory leads to.
struct LiveLabels {
    std::set<std::array<std::string_view, 1>> sites;
    std::set<std::array<std::string_view, 1>> clients;
    std::set<std::array<std::string_view, 2>> resources;
    std::set<std::array<std::string_view, 3>> targets;
    std::set<std::array<std::string_view, 2>> backends;
    // Keeps what labels point into.
    std::vector<std::string> backend_names;

    explicit LiveLabels(const SiteDirectory& directory) {
        sites.insert({unassigned_site_id});
        for (const Site& site : directory.sites)
            sites.insert({site.site_id});
        for (const Client& client : directory.clients)
            clients.insert({client.client_id});
        backend_names.reserve(directory.targets.size());
        for (const Target& target : directory.targets) {
            const std::string_view site_id =
                target.site ? std::string_view(directory.sites[*target.site].site_id) : unassigned_site_id;
            const std::string_view resource_id = directory.resources[target.resource].resource_id;
            resources.insert({site_id, resource_id});
            if (!target.dialled)
                continue;
            const std::string_view backend = backend_names.emplace_back(target.dialled->to_string());
            targets.insert({site_id, resource_id, backend});
            backends.insert({site_id, backend});
        }
    }
};

}  // namespace

std::shared_ptr<ClientAccount> Ledger::client(std::string_view client_id) {
    return clients.of({client_id}, [&] {
        return std::make_shared<ClientAccount>(ClientAccount{.client_id = std::string(client_id)});
    });
}

void Ledger::forget_unused(const SiteDirectory& directory, const AccountReview& review) {
    const LiveLabels live(directory);
    const auto in = [](const auto& labels) {
        return [&](const auto& each) { return labels.contains(each); };
    };
    sites.forget_unused(review, in(live.sites));
    clients.forget_unused(review, in(live.clients));
    resources.forget_unused(review, in(live.resources), in(live.targets), in(live.backends));
}

}  // namespace pangolin
