#include "exporter/metrics_service.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <type_traits>

namespace pangolin {

namespace {

template <class Cell>
bool is_type_of(MetricType type) {
    if constexpr (std::is_same_v<Cell, FixedPointCell>)
        return type == MetricType::counter;
    else if constexpr (std::is_same_v<Cell, HistogramCell>)
        return type == MetricType::histogram;
    else
        return type == MetricType::gauge;
}

bool is_published(const GaugeCell& cell) {
    return cell.is_set();
}

template <class Cell>
bool is_published(const Cell&) {
    return true;
}

}  // namespace

template <class Cell>
Instrument<Cell>::Instrument(ApplicationMetrics& registry, std::string_view row)
    : registry_(registry), row_(catalogue_row(row)), sink_(make_cell()) {
    if (!is_type_of<Cell>(row_.type))
        throw std::logic_error("the catalogue has another type for " + std::string(row));
}

template <class Cell>
std::shared_ptr<Cell> Instrument<Cell>::make_cell() const {
    if constexpr (std::is_same_v<Cell, HistogramCell>)
        return std::make_shared<Cell>(histogram_bounds(row_));
    else
        return std::make_shared<Cell>();
}

template <class Cell>
bool Instrument<Cell>::key_of(LabelList labels, std::string& key) const {
    std::size_t used = 0;
    for (const std::string_view name : row_.labels) {
        for (const auto& [label, value] : labels)
            if (label == name) {
                key += value;
                ++used;
            }
        key += '\0';
    }
    return used == labels.size();
}

template <class Cell>
std::shared_ptr<Cell> Instrument<Cell>::cell(LabelList labels) {
    std::string key;
    if (!key_of(labels, key)) {
        registry_.count_rejected(Rejection::label_mismatch);
        return sink_;
    }
    // Outside of our lock: collecting takes the registry's first, then ours.
    if (const auto rejection = registry_.admits(row_))
        registry_.count_rejected(*rejection);
    {
        const std::shared_lock lock(mutex_);
        if (const auto found = series_.find(key); found != series_.end())
            return found->second.cell;
    }
    std::unique_lock lock(mutex_);
    if (series_.size() >= registry_.limits().series_per_family && !series_.contains(key)) {
        lock.unlock();
        registry_.count_limited(row_.name);
        registry_.count_rejected(Rejection::series_limit);
        return sink_;
    }
    const auto [entry, inserted] = series_.try_emplace(std::move(key));
    if (inserted) {
        Labels complete;
        for (const std::string_view name : row_.labels) {
            const auto* const label =
                std::ranges::find(labels, name, &std::pair<std::string_view, std::string_view>::first);
            complete.push_back({std::string(name), std::string(label == labels.end() ? "" : label->second)});
        }
        entry->second = {std::make_shared<const Labels>(std::move(complete)), make_cell()};
    }
    return entry->second.cell;
}

template <class Cell>
void Instrument<Cell>::remove(LabelList labels) {
    std::string key;
    if (!key_of(labels, key))
        return;
    const std::unique_lock lock(mutex_);
    series_.erase(key);
}

template <class Cell>
void Instrument<Cell>::provide(std::vector<PublishedFamily>& families) const {
    if (registry_.admits(row_))
        return;
    PublishedFamily family{.header = {.name = std::string(row_.name),
                                      .type = row_.type,
                                      .unit = std::string(row_.unit),
                                      .help = std::string(row_.help)},
                           .series = {}};
    const std::shared_lock lock(mutex_);
    for (const auto& [key, series] : series_)
        if (is_published(*series.cell))
            family.series.push_back({series.labels, series.cell->value()});
    if (!family.series.empty())
        families.push_back(std::move(family));
}

template class Instrument<FixedPointCell>;
template class Instrument<HistogramCell>;
template class Instrument<GaugeCell>;

MetricsService::MetricsService(ApplicationMetrics& registry) : registry_(registry) {
    registry_.add_provider(*this);
}

MetricsService::~MetricsService() {
    registry_.remove_provider(*this);
}

template <class Function>
void MetricsService::for_each_instrument(Function function) const {
#define PANGOLIN_VISIT(Type, name) function(name##_);
    PANGOLIN_INSTRUMENTS(PANGOLIN_VISIT)
#undef PANGOLIN_VISIT
}

void MetricsService::provide(std::vector<PublishedFamily>& families) const {
    for_each_instrument([&](const auto& instrument) { instrument.provide(families); });
}

std::vector<std::string_view> MetricsService::families() const {
    std::vector<std::string_view> names;
    for_each_instrument([&](const auto& instrument) { names.push_back(instrument.row().name); });
    return names;
}

void MetricsService::set_site_active_sites(std::string_view region, double sites) {
    site_active_sites_.set(sites, {{"region", region}});
}

void MetricsService::set_site_online(std::string_view site_id, std::string_view transport, bool online) {
    site_online_.set(online, {{"site_id", site_id}, {"transport", transport}});
}

void MetricsService::set_resource_active_connections(std::string_view site_id, std::string_view resource_id,
                                                     std::string_view protocol, double connections) {
    resource_active_connections_.set(
        connections, {{"site_id", site_id}, {"resource_id", resource_id}, {"protocol", protocol}});
}

void MetricsService::set_tunnel_up(std::string_view site_id, std::string_view transport, bool up) {
    tunnel_up_.set(up, {{"site_id", site_id}, {"transport", transport}});
}

void MetricsService::set_backend_health_status(std::string_view backend, std::string_view site_id,
                                               bool healthy) {
    backend_health_status_.set(healthy, {{"backend", backend}, {"site_id", site_id}});
}

void MetricsService::set_auth_active_users(std::string_view auth_method, double users) {
    auth_active_users_.set(users, {{"auth_method", auth_method}});
}

void MetricsService::set_ui_active_sessions(double sessions) {
    ui_active_sessions_.set(sessions);
}

void MetricsService::set_certificates_expiry_days(std::string_view site_id, std::string_view resource_id,
                                                  double days) {
    certificates_expiry_days_.set(days, {{"site_id", site_id}, {"resource_id", resource_id}});
}

void MetricsService::set_ws_active_connections(std::string_view site_id, double connections) {
    ws_active_connections_.set(connections, {{"site_id", site_id}});
}

void MetricsService::set_acme_cert_expiry_days(std::string_view domain, double days) {
    acme_cert_expiry_days_.set(days, {{"domain", domain}});
}

void MetricsService::set_db_pool_connections(std::string_view state, double connections) {
    db_pool_connections_.set(connections, {{"state", state}});
}

void MetricsService::set_background_queue_depth(std::string_view job_type, double jobs) {
    background_queue_depth_.set(jobs, {{"job_type", job_type}});
}

}  // namespace pangolin
