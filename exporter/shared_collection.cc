#include "exporter/shared_collection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <string>
#include <utility>

namespace pangolin {

namespace asio = boost::asio;

// A timer that a finished run cancels. It leaves the run's list also when its coroutine is destroyed.
class SharedCollection::Waiter {
  public:
    Waiter(asio::io_context& io, std::shared_ptr<Run> run, std::chrono::milliseconds patience)
        : run_(std::move(run)), timer_(io, patience) {
        run_->waiting.push_back(&timer_);
    }
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    ~Waiter() { std::erase(run_->waiting, &timer_); }

    asio::steady_timer& timer() { return timer_; }

  private:
    std::shared_ptr<Run> run_;
    asio::steady_timer timer_;
};

SharedCollection::SharedCollection(asio::io_context& io, SnapshotProvider snapshot, FamiliesProvider families,
                                   ApplicationProvider application, std::chrono::milliseconds patience)
    : io_(io),
      snapshot_(std::move(snapshot)),
      families_(std::move(families)),
      application_(std::move(application)),
      patience_(patience) {}

asio::awaitable<Result<Collected>> SharedCollection::collect(std::chrono::milliseconds patience) {
    patience = std::min(patience, patience_);
    const std::shared_ptr<Run> run = running_ ? running_ : start();
    Waiter waiter(io_, run, patience);
    boost::system::error_code cancelled;
    co_await waiter.timer().async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    if (!run->done)
        co_return failure("the collection takes longer than " + std::to_string(patience.count()) + " ms");
    co_return run->result;
}

std::shared_ptr<SharedCollection::Run> SharedCollection::start() {
    auto run = std::make_shared<Run>();
    running_ = run;
    asio::post(worker_, [this, run] {
        auto result = std::make_shared<Result<Collected>>(make());
        asio::post(io_, [this, run, result] {
            run->result = std::move(*result);
            run->done = true;
            running_.reset();
            for (asio::steady_timer* const timer : run->waiting)
                timer->cancel();
        });
    });
    return run;
}

Result<Collected> SharedCollection::make() const {
    try {
        Collected collected;
        collected.snapshot = snapshot_();
        collected.families = std::make_shared<const std::vector<prometheus::MetricFamily>>(families_());
        if (application_)
            collected.application = application_();
        return collected;
    } catch (const std::exception& error) {
        return failure(std::string("the collection failed: ") + error.what());
    }
}

void SharedCollection::stop() {
    worker_.stop();
    worker_.join();
}

}  // namespace pangolin
