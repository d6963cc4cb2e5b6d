#include "exporter/self_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "exporter/catalogue.h"

namespace pangolin {

namespace {

// Around what a collection and its answer take: a millisecond for a few sites, tens for thousands; the upper
// end is Prometheus' default timeout.
const prometheus::Histogram::BucketBoundaries scrape_buckets{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                             0.25,  0.5,    1,     2.5,  5,     10};

template <class Builder>
auto& registered(Builder builder, prometheus::Registry& registry, std::string_view name) {
    return builder.Name(std::string(name)).Help(std::string(catalogue_row(name).help)).Register(registry);
}

// The fields of /proc/self/stat behind the command's name, which may hold spaces: index 0 is the state (field
// 3).
std::vector<std::string> process_stat() {
    std::ifstream file("/proc/self/stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::size_t command_end = text.rfind(')');
    if (command_end == std::string::npos)
        return {};
    std::istringstream fields(text.substr(command_end + 1));
    return {std::istream_iterator<std::string>(fields), {}};
}

// Unix time of the machine's start; the processes' start times count from it.
std::optional<double> boot_time() {
    std::ifstream file("/proc/stat");
    std::string key;
    double value = 0;
    while (file >> key) {
        if (key == "btime" && file >> value)
            return value;
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return std::nullopt;
}

std::optional<double> open_descriptors() {
    std::error_code error;
    const std::filesystem::directory_iterator entries("/proc/self/fd", error);
    if (error)
        return std::nullopt;
    // One of them is this listing's own.
    return static_cast<double>(std::distance(begin(entries), end(entries))) - 1;
}

void add(std::vector<prometheus::MetricFamily>& families, std::string_view name,
         std::optional<double> value) {
    if (!value)
        return;
    const Metric& row = catalogue_row(name);
    prometheus::MetricFamily& family = families.emplace_back();
    family.name = row.name;
    family.help = row.help;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    if (row.type == MetricType::counter) {
        family.type = prometheus::MetricType::Counter;
        metric.counter.value = *value;
    } else {
        family.type = prometheus::MetricType::Gauge;
        metric.gauge.value = *value;
    }
}

}  // namespace

SelfMetrics::SelfMetrics()
    : responses_(registered(prometheus::BuildCounter(), registry_, "pangolin_exporter_http_responses_total")),
      connections_(
          registered(prometheus::BuildGauge(), registry_, "pangolin_exporter_http_connections").Add({})),
      rejected_connections_(registered(prometheus::BuildCounter(), registry_,
                                       "pangolin_exporter_http_connections_rejected_total")
                                .Add({})),
      scrape_duration_(
          registered(prometheus::BuildHistogram(), registry_, "pangolin_exporter_scrape_duration_seconds")
              .Add({}, scrape_buckets)) {}

void SelfMetrics::count_response(std::string_view handler, unsigned status) {
    responses_.Add({{"handler", std::string(handler)}, {"code", std::to_string(status)}}).Increment();
}

void SelfMetrics::set_web_config(bool success) {
    // Absent where there is none.
    registered(prometheus::BuildGauge(), registry_, "pangolin_exporter_web_config_last_reload_successful")
        .Add({})
        .Set(success ? 1 : 0);
}

std::vector<prometheus::MetricFamily> SelfMetrics::collect() const {
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    std::ranges::move(process_metric_families(), std::back_inserter(families));
    return families;
}

std::vector<prometheus::MetricFamily> process_metric_families() {
    std::vector<prometheus::MetricFamily> families;
    const std::vector<std::string> stat = process_stat();
    // Fields 14 and 15 (utime, stime), 22 (start time), 23 (virtual size), 24 (resident pages) of proc(5).
    constexpr std::size_t user = 11, system = 12, start = 19, virtual_size = 20, resident = 21;
    if (stat.size() > resident) {
        const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
        const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
        add(families, "process_cpu_seconds_total", (std::stod(stat[user]) + std::stod(stat[system])) / ticks);
        if (const std::optional<double> boot = boot_time())
            add(families, "process_start_time_seconds", *boot + std::stod(stat[start]) / ticks);
        add(families, "process_virtual_memory_bytes", std::stod(stat[virtual_size]));
        add(families, "process_resident_memory_bytes", std::stod(stat[resident]) * page);
    }
    add(families, "process_open_fds", open_descriptors());
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        add(families, "process_max_fds", static_cast<double>(limit.rlim_cur));
    return families;
}

}  // namespace pangolin
