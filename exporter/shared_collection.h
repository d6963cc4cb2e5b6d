// One collection at a time, off the web thread, for all scrapes that wait for one.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include <prometheus/metric_family.h>

#include "exporter/application/application_series.h"
#include "exporter/prometheus_bridge.h"
#include "loader/base/error.h"

namespace pangolin {

struct Collected {
    // Null: the provider has none yet.
    std::shared_ptr<const Snapshot> snapshot;
    std::shared_ptr<const std::vector<prometheus::MetricFamily>> families;
    // Null where no application is heard.
    std::shared_ptr<const ApplicationSnapshot> application;
};

// collect() belongs to the thread that runs `io`; the providers run on a thread of this object's own. A
// scrape that arrives while a collection runs shares its result, so that a crowd costs one collection.
class SharedCollection {
  public:
    using FamiliesProvider = std::function<std::vector<prometheus::MetricFamily>()>;
    // Null: there is none.
    using ApplicationProvider = std::function<std::shared_ptr<const ApplicationSnapshot>()>;

    SharedCollection(boost::asio::io_context& io, SnapshotProvider snapshot, FamiliesProvider families,
                     ApplicationProvider application, std::chrono::milliseconds patience);

    // Fails when the provider throws, or after `patience`, at most this object's own (the collection goes on
    // for those who come later).
    boost::asio::awaitable<Result<Collected>> collect(
        std::chrono::milliseconds patience = std::chrono::milliseconds::max());

    // Waits for a collection that is running. No collection begins after it.
    void stop();

  private:
    struct Run {
        std::vector<boost::asio::steady_timer*> waiting;
        bool done = false;
        Result<Collected> result;
    };
    class Waiter;

    std::shared_ptr<Run> start();
    Result<Collected> make() const;

    boost::asio::io_context& io_;
    SnapshotProvider snapshot_;
    FamiliesProvider families_;
    ApplicationProvider application_;
    std::chrono::milliseconds patience_;
    // Null when none is running. Only the thread of `io` touches it.
    std::shared_ptr<Run> running_;
    boost::asio::thread_pool worker_{1};
};

}  // namespace pangolin
