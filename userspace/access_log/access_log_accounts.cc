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
        TargetLabels labels = labels_of_target(target);
        live.insert({std::move(labels.site_id), std::move(labels.resource_id), std::move(labels.backend)});
    }
    const auto is_live = [&](const Accounts::Labels& labels) {
        return live.contains({std::string(labels[0]), std::string(labels[1]), std::string(labels[2])});
    };
    opaque_.forget_unused(review, is_live);
    clear_.forget_unused(review, is_live);
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

AccessLogAccounts::Counts& AccessLogAccounts::counts_of(Accounts& accounts, TargetLabels labels) {
    const Accounts::Labels wanted{labels.site_id, labels.resource_id, labels.backend};
    return accounts
        .of(wanted, [&] { return std::make_shared<Account>(Account{.labels = labels, .counts = {}}); })
        ->counts;
}

AccessLogAccounts::Written AccessLogAccounts::written(const Accounts& accounts) {
    Written result;
    accounts.for_each([&](const Account& account) {
        const TargetLabels& labels = account.labels;
        result.emplace(std::array{labels.site_id, labels.resource_id, labels.backend}, account.counts);
    });
    return result;
}

AccessLogAccounts::Accounts AccessLogAccounts::read(Written written) {
    Accounts result;
    for (auto& [labels, counts] : written)
        counts_of(result, {labels[0], labels[1], labels[2]}) = std::move(counts);
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
    opaque_ = read(std::move(opaque));
    clear_ = read(std::move(clear));
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
    Counts& counts = counts_of(kernel_can_read(entry, *target) ? clear_ : opaque_, labels_of_target(*target));
    const std::uint16_t method = method_of(entry.method);
    counts.exchanges.add_requests(method, entry.status, 1);
    counts.exchanges.aborted += entry.end == AccessLogEnd::unanswered || entry.end == AccessLogEnd::cut_off;
    if (entry.end == AccessLogEnd::unanswered)
        return;
    counts.sizes.observe(entry.size.value_or(0));
    if (entry.end == AccessLogEnd::complete && !entry.event_stream && entry.duration_ns)
        counts.exchanges.durations[method].observe(*entry.duration_ns / 1000);
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
        accounts->for_each([&](const Account& account) {
            const TargetLabels& labels = account.labels;
            pangolin::add(account.counts.exchanges, account_of(snapshot.targets, labels, of_target).http);
            pangolin::add(
                account.counts.sizes,
                account_of(snapshot.backends, BackendLabels{labels.site_id, labels.backend}, of_backend)
                    .response_sizes);
        });
    }
    published_ = std::chrono::steady_clock::now();
}

}  // namespace pangolin
