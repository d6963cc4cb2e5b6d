// What an addition through MetricsService costs, beside one to a plain atomic.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "exporter/metrics_service.h"

namespace {

using namespace pangolin;
using Clock = std::chrono::steady_clock;

constexpr unsigned samples = 31;
constexpr unsigned calls = 1'000'000;

// Median and half distance of the quartiles, in nanoseconds a call of each thread.
struct Timing {
    double median = 0;
    double spread = 0;
};

template <class Work>
double nanoseconds_a_call(unsigned threads, Work work) {
    std::barrier start(threads);
    std::vector<double> times(threads);
    {
        std::vector<std::jthread> workers;
        for (unsigned i = 0; i < threads; ++i)
            workers.emplace_back([&, i] {
                start.arrive_and_wait();
                const Clock::time_point begin = Clock::now();
                for (unsigned call = 0; call < calls; ++call)
                    work();
                times[i] = std::chrono::duration<double, std::nano>(Clock::now() - begin).count() / calls;
            });
    }
    return *std::ranges::max_element(times);
}

template <class Work>
Timing measure(unsigned threads, Work work) {
    std::vector<double> times;
    nanoseconds_a_call(threads, work);
    for (unsigned i = 0; i < samples; ++i)
        times.push_back(nanoseconds_a_call(threads, work));
    std::ranges::sort(times);
    return {times[samples / 2], (times[3 * samples / 4] - times[samples / 4]) / 2};
}

void print(const char* what, unsigned threads, const Timing& timing, const Timing& atomic) {
    fmt::print(
        "bench=metrics_service what={} threads={} ns={:.1f} spread_ns={:.1f} atomic_ns={:.1f} ratio={:.2f}\n",
        what, threads, timing.median, timing.spread, atomic.median, timing.median / atomic.median);
}

}  // namespace

int main() {
    ApplicationMetrics registry;
    MetricsService metrics(registry);
    const auto counter = metrics.token_issued_total().with({{"auth_method", "oidc"}});
    const auto seconds = metrics.db_wait_seconds_total().with({});
    const auto histogram =
        metrics.integration_api_duration_seconds().with({{"endpoint", "/"}, {"method", "GET"}});
    std::atomic<std::uint64_t> plain = 0;
    for (const unsigned threads : {1U, 2U}) {
        const Timing atomic = measure(threads, [&] { plain.fetch_add(1, std::memory_order_relaxed); });
        print("counter_add", threads, measure(threads, [&] { counter.add(1); }), atomic);
        print("counter_add_fraction", threads, measure(threads, [&] { seconds.add(0.001); }), atomic);
        print("histogram_record", threads, measure(threads, [&] { histogram.record(0.02); }), atomic);
        print("counter_add_with_labels", threads,
              measure(threads, [&] { metrics.token_issued_total().add(1, {{"auth_method", "oidc"}}); }),
              atomic);
    }
    return 0;
}
