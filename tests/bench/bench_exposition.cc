// CPU time of writing a scrape's answer, beside prometheus-cpp's serializer over the same samples.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include "exporter/exposition.h"
#include "exporter/gzip_body.h"
#include "exporter/prometheus_bridge.h"
#include "tests/support/random_snapshot.h"

namespace {

using namespace pangolin;

double cpu_milliseconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

// The median of `runs`; its spread is the half distance of the quartiles.
struct Timing {
    double median = 0;
    double spread = 0;
};

template <class Work>
Timing measure(unsigned runs, Work work) {
    work();
    std::vector<double> times;
    for (unsigned i = 0; i < runs; ++i) {
        const double start = cpu_milliseconds();
        work();
        times.push_back(cpu_milliseconds() - start);
    }
    std::ranges::sort(times);
    return {times[runs / 2], (times[3 * runs / 4] - times[runs / 4]) / 2};
}

// Of this moment, not the peak: the library's own answer is measured later and is large.
double resident_megabytes() {
    std::ifstream statm("/proc/self/statm");
    double size = 0;
    double resident = 0;
    statm >> size >> resident;
    return resident * 4096 / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
    const unsigned sites = argc > 1 ? static_cast<unsigned>(std::stoul(argv[1])) : 10000;
    const auto snapshot =
        random_snapshot(1, {.sites = sites, .interfaces = 1, .protocols = 3, .difficult_names = false});

    std::size_t bytes = 0;
    std::size_t lines = 0;
    const auto write = [&](ExpositionFormat format) {
        Exposition exposition(snapshot, nullptr, format);
        bytes = 0;
        for (auto block = exposition.next_block(); !block.empty(); block = exposition.next_block())
            bytes += block.size();
    };
    const Timing text = measure(21, [&] { write(ExpositionFormat::text); });
    Exposition count(snapshot, nullptr, ExpositionFormat::text);
    for (auto block = count.next_block(); !block.empty(); block = count.next_block())
        lines += static_cast<std::size_t>(std::ranges::count(block, '\n'));
    const std::size_t text_bytes = bytes;
    const Timing open_metrics = measure(21, [&] { write(ExpositionFormat::open_metrics); });

    std::size_t gzip_bytes = 0;
    const Timing gzip = measure(5, [&] {
        GzipBody body(std::make_unique<Exposition>(snapshot, nullptr, ExpositionFormat::text));
        gzip_bytes = 0;
        for (auto block = body.next_block(); !block.empty(); block = body.next_block())
            gzip_bytes += block.size();
    });
    const double resident = resident_megabytes();

    const auto families = metric_families(*snapshot);
    const Timing library = measure(5, [&] {
        std::ostringstream out;
        prometheus::TextSerializer().Serialize(out, families);
    });
    fmt::print(
        "bench=exposition sites={} samples={} bytes={} text_cpu_ms={:.2f} text_spread_ms={:.2f} "
        "ns_per_sample={:.1f} open_metrics_cpu_ms={:.2f} gzip_cpu_ms={:.1f} gzip_bytes={} "
        "prometheus_cpp_cpu_ms={:.1f} times_faster={:.1f} resident_mb={:.1f}\n",
        sites, lines, text_bytes, text.median, text.spread, text.median * 1e6 / static_cast<double>(lines),
        open_metrics.median, gzip.median, gzip_bytes, library.median, library.median / text.median, resident);
    return 0;
}
