#include "userspace/access_log/access_log_accounts.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

namespace pangolin {
namespace {

std::uint16_t method_of(std::string_view name) {
    const auto* const found = std::ranges::find(http_method_names, name);
    return found == http_method_names.end() ? std::uint16_t{HTTP_METHOD_OTHER}
                                            : static_cast<std::uint16_t>(found - http_method_names.begin());
}

// The account with these labels in a snapshot's, which are in their order.
template <class Labels, class Account>
Account& account_of(std::vector<Account>& accounts, const Labels& labels, auto order) {
    const auto place = std::ranges::lower_bound(accounts, order(labels), {},
                                                [&](const Account& each) { return order(*each.labels); });
    if (place != accounts.end() && order(*place->labels) == order(labels))
        return *place;
    Account added;
    added.labels = std::make_shared<const Labels>(labels);
    return *accounts.insert(place, std::move(added));
}

void add(const HttpExchanges& from, HttpExchanges& to) {
    for (const auto& [answer, count] : from.requests)
        to.add_requests(answer.first, answer.second, count);
    to.aborted += from.aborted;
    for (const auto& [method, duration] : from.durations)
        if (!duration.empty())
            to.durations[method].add_growth(duration.histogram(), latency_histogram{});
}

void add(const HttpResponseSizes& from, HttpResponseSizes& to) {
    for (std::size_t index = 0; index < from.bucket.size(); ++index)
        to.bucket[index] += from.bucket[index];
    to.sum += from.sum;
}

}  // namespace

void AccessLogAccounts::sites_changed(std::shared_ptr<const SiteDirectory> directory,
                                      std::chrono::steady_clock::time_point now) {
    directory_ = std::move(directory);
    forget_unused({.now = now, .published = published_});
    by_address_.clear();
    by_resource_.clear();
    for (const Target& target : directory_->targets) {
        const Resource& resource = directory_->resources[target.resource];
        if (resource.protocol == "tcp" || resource.protocol == "udp")
            continue;
        if (target.dialled)
            by_address_.emplace(*target.dialled, &target);
        if (resource.number)
            by_resource_.emplace(*resource.number, &target);
    }
}

void AccessLogAccounts::forget_unused(const AccountReview& review) {
    std::set<std::array<std::string, 3>> live;
    for (const Target& target : directory_->targets) {
        const auto [site_id, resource_id, backend] = labels_of_target(target);
        live.insert({site_id, resource_id, backend});
        live.insert({site_id, "", backend});
    }
    const auto is_live_target = [&](const std::array<std::string_view, 3>& labels) {
        return live.contains({std::string(labels[0]), std::string(labels[1]), std::string(labels[2])});
    };
    const auto is_live_backend = [&](const std::array<std::string_view, 2>& labels) {
        return live.contains({std::string(labels[0]), "", std::string(labels[1])});
    };
    for (Accounts* const accounts : {&opaque_, &clear_}) {
        accounts->exchanges.forget_unused(review, is_live_target);
        accounts->sizes.forget_unused(review, is_live_backend);
    }
}

// The server says the target, unless several resources share it: then the service's name or the Host does.
const Target* AccessLogAccounts::find_target(const AccessLogEntry& entry) const {
    const auto name = parse_traefik_service_name(entry.service);
    const auto rank = [&](const Target& target) {
        const Resource& resource = directory_->resources[target.resource];
        const bool is_named = name && resource.number == name->resource_id;
        return std::tuple(is_named, !entry.host.empty() && resource.domain == entry.host,
                          target.enabled && resource.enabled);
    };
    const Target* best = nullptr;
    if (entry.server) {
        const auto [begin, end] = by_address_.equal_range(entry.server->address);
        for (auto each = begin; each != end; ++each)
            if (best == nullptr || rank(*each->second) > rank(*best))
                best = each->second;
        return best;
    }
    if (!name)
        return nullptr;
    const auto [begin, end] = by_resource_.equal_range(name->resource_id);
    for (auto each = begin; each != end; ++each) {
        if (!each->second->enabled || !each->second->dialled)
            continue;
        if (best != nullptr)
            return nullptr;
        best = each->second;
    }
    return best;
}

bool AccessLogAccounts::kernel_can_read(const AccessLogEntry& entry, const Target& target) const {
    const std::string& method =
        entry.server && !entry.server->method.empty() ? entry.server->method : target.method;
    return !target.dialled_addresses().empty() && method != "https" && method != "h2c";
}

TargetLabels AccessLogAccounts::labels_of_target(const Target& target) const {
    return {
        .site_id = target.site ? directory_->sites[*target.site].site_id : std::string(unassigned_site_id),
        .resource_id = directory_->resources[target.resource].resource_id,
        .backend = target.dialled ? target.dialled->to_string() : std::string()};
}

HttpExchanges& AccessLogAccounts::Accounts::exchanges_of(const TargetLabels& labels) {
    const std::array<std::string_view, 3> wanted{labels.site_id, labels.resource_id, labels.backend};
    return exchanges
        .of(wanted, [&] { return std::make_shared<Exchanges>(Exchanges{.labels = labels, .exchanges = {}}); })
        ->exchanges;
}

HttpResponseSizes& AccessLogAccounts::Accounts::sizes_of(const BackendLabels& labels) {
    const std::array<std::string_view, 2> wanted{labels.site_id, labels.backend};
    return sizes.of(wanted, [&] { return std::make_shared<Sizes>(Sizes{.labels = labels, .sizes = {}}); })
        ->sizes;
}

AccessLogAccounts::Written AccessLogAccounts::written(const Accounts& accounts) {
    Written result;
    accounts.exchanges.for_each([&](const Exchanges& each) {
        const auto& [site_id, resource_id, backend] = each.labels;
        result[{site_id, resource_id, backend}].exchanges = each.exchanges;
    });
    accounts.sizes.for_each([&](const Sizes& each) {
        result[{each.labels.site_id, "", each.labels.backend}].sizes = each.sizes;
    });
    return result;
}

AccessLogAccounts::Accounts AccessLogAccounts::read(const Written& written) {
    Accounts result;
    for (const auto& [labels, counts] : written) {
        const auto& [site_id, resource_id, backend] = labels;
        if (!resource_id.empty())
            result.exchanges_of({site_id, resource_id, backend}) = counts.exchanges;
        pangolin::add(counts.sizes, result.sizes_of({site_id, backend}));
    }
    return result;
}

void AccessLogAccounts::save(ArchiveWriter& writer) const {
    writer(written(opaque_), written(clear_), unattributed_);
}

void AccessLogAccounts::restore(ArchiveReader& reader) {
    Written opaque;
    Written clear;
    std::uint64_t unattributed = 0;
    reader(opaque, clear, unattributed);
    if (!reader.ok())
        return;
    opaque_ = read(opaque);
    clear_ = read(clear);
    unattributed_ = unattributed;
}

void AccessLogAccounts::add(const AccessLogEntry& entry) {
    // Traefik answered by itself, or it is a service that Pangolin made for no target.
    if (entry.service.empty() || (!entry.server && !parse_traefik_service_name(entry.service)))
        return;
    const Target* const target = find_target(entry);
    if (target == nullptr) {
        unattributed_ += parse_traefik_service_name(entry.service).has_value();
        return;
    }
    Accounts& accounts = kernel_can_read(entry, *target) ? clear_ : opaque_;
    const TargetLabels labels = labels_of_target(*target);
    HttpExchanges& exchanges = accounts.exchanges_of(labels);
    const std::uint16_t method = method_of(entry.method);
    exchanges.add_requests(method, entry.status, 1);
    exchanges.aborted += entry.end == AccessLogEnd::unanswered || entry.end == AccessLogEnd::cut_off;
    if (entry.end == AccessLogEnd::unanswered)
        return;
    accounts.sizes_of({labels.site_id, labels.backend}).observe(entry.size.value_or(0));
    if (entry.end == AccessLogEnd::complete && !entry.event_stream && entry.duration_ns)
        exchanges.durations[method].observe(*entry.duration_ns / 1000);
}

void AccessLogAccounts::add_to(Snapshot& snapshot, bool kernel_reads_http) const {
    const auto of_target = [](const TargetLabels& labels) {
        return std::tie(labels.site_id, labels.resource_id, labels.backend);
    };
    const auto of_backend = [](const BackendLabels& labels) {
        return std::tie(labels.site_id, labels.backend);
    };
    for (const Accounts* accounts : {&opaque_, &clear_}) {
        if (accounts == &clear_ && kernel_reads_http)
            continue;
        accounts->exchanges.for_each([&](const Exchanges& each) {
            pangolin::add(each.exchanges, account_of(snapshot.targets, each.labels, of_target).http);
        });
        accounts->sizes.for_each([&](const Sizes& each) {
            pangolin::add(each.sizes, account_of(snapshot.backends, each.labels, of_backend).response_sizes);
        });
    }
    published_ = std::chrono::steady_clock::now();
}

}  // namespace pangolin
