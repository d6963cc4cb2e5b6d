#include "userspace/control_plane/control_plane.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <vector>

namespace pangolin {
namespace {

using Clock = ControlAccounts::Clock;

// How long the thread's end may have to be waited for.
constexpr std::chrono::milliseconds poll_time{200};
// A Pangolin that was started anew is found within this time; what it does before that is not seen.
constexpr std::chrono::seconds look_interval{2};

std::vector<HttpServerPort> services_of(const std::optional<PangolinProcess>& pangolin,
                                        const PangolinPorts& ports) {
    if (!pangolin)
        return {};
    const auto netns = static_cast<std::uint32_t>(pangolin->netns.id.inode);
    return {
        {netns, ports.external}, {netns, ports.internal}, {netns, ports.next}, {netns, ports.integration}};
}

}  // namespace

ControlPlane::ControlPlane(std::shared_ptr<PangolinProcessFinder> finder)
    : finder_(std::move(finder)), accounts_(finder_->ports()) {}

ControlPlane::~ControlPlane() = default;

void ControlPlane::handle(const http_event& event) {
    const std::lock_guard lock(mutex_);
    switch (event.type) {
        case HTTP_EVENT_EXCHANGE:
            return accounts_.count(reinterpret_cast<const http_exchange&>(event), Clock::now());
        case HTTP_EVENT_FRAME:
            return accounts_.count(reinterpret_cast<const http_frame&>(event));
        case HTTP_EVENT_CLOSED:
            return accounts_.close(event);
        default:
            return;
    }
}

void ControlPlane::start(HttpProgram& program) {
    look_for_pangolin(program);
    thread_ = std::jthread([this, &program](const std::stop_token& stop) { run(program, stop); });
}

void ControlPlane::run(HttpProgram& program, const std::stop_token& stop) {
    Clock::time_point next_look = Clock::now() + look_interval;
    while (!stop.stop_requested()) {
        try {
            if (const auto waited = wait_for_events(program); !waited) {
                const std::lock_guard lock(mutex_);
                return state_.failed(waited.error());
            }
            if (Clock::now() < next_look)
                continue;
            next_look = Clock::now() + look_interval;
            look_for_pangolin(program);
            const auto erased = erase_events(program);
            const std::lock_guard lock(mutex_);
            if (!erased)
                return state_.failed(erased.error());
            accounts_.expire(Clock::now());
        } catch (const std::exception& exception) {
            spdlog::error("unexpected: {}", exception.what());
        }
    }
    if (const auto erased = erase_events(program); !erased)
        spdlog::debug("{}", erased.error().message());
}

void ControlPlane::stop() {
    thread_.request_stop();
    if (thread_.joinable())
        thread_.join();
}

Result<void> ControlPlane::wait_for_events(HttpProgram& program) {
    pollfd ring{.fd = program.events_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ring, 1, static_cast<int>(poll_time.count())) < 0 && errno != EINTR)
        return system_failure(errno, "cannot wait for the events of HTTP services");
    const auto consumed = program.consume();
    if (!consumed)
        return std::unexpected(consumed.error());
    has_consumed_ |= *consumed != 0;
    return {};
}

// Paths and messages may have secrets in them: no event is kept for longer than from one look to the next.
Result<void> ControlPlane::erase_events(HttpProgram& program) {
    if (!has_consumed_)
        return {};
    has_consumed_ = false;
    const auto erased = program.erase_consumed();
    return erased ? Result<void>() : std::unexpected(erased.error());
}

void ControlPlane::look_for_pangolin(HttpProgram& program) {
    const std::optional<PangolinProcess> now = finder_->find();
    if (now == pangolin_)
        return;
    const auto set = program.set_services(services_of(now, finder_->ports()));
    const std::lock_guard lock(mutex_);
    // The next look tries again.
    if (!set)
        return state_.failed(set.error());
    if (now) {
        spdlog::info("observing Pangolin: process {} in network namespace {}", now->pid, now->netns.name);
        state_.succeeded();
    } else {
        spdlog::info("Pangolin is gone: nobody listens on ports {} and {}", finder_->ports().external,
                     finder_->ports().internal);
        state_.idle();
    }
    pangolin_ = now;
    accounts_.forget_websockets();
}

void ControlPlane::sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
    const std::lock_guard lock(mutex_);
    accounts_.set_directory(*directory, std::chrono::steady_clock::now());
}

void ControlPlane::describe(Snapshot& snapshot) const {
    const std::lock_guard lock(mutex_);
    auto counts = std::make_shared<const ControlCounts>(accounts_.counts());
    snapshot.lost_updates.push_back({"control_requests", "max_series", counts->limited_requests});
    snapshot.lost_updates.push_back({"websockets", "full", counts->unfollowed_websockets});
    snapshot.lost_updates.push_back({"newt_tokens", "full", counts->forgotten_tokens});
    snapshot.lost_updates.push_back({"refused_requests", "unknown_resource", counts->refused_elsewhere});
    snapshot.control_plane = std::move(counts);
    snapshot.sources.push_back(state_.status());
}

// What counts WebSockets that are open does not outlive them.
template <class Archive>
void fields(Archive& archive, ControlCounts& counts) {
    archive(counts.ui_requests, counts.integration_requests, counts.integration_durations, counts.sign_ins,
            counts.sign_in_durations, counts.sign_in_failures, counts.tokens_issued, counts.tokens_revoked,
            counts.token_refreshes, counts.provider_syncs, counts.provider_errors,
            counts.configuration_reloads, counts.hole_punches, counts.background_jobs, counts.session_checks,
            counts.session_check_durations, counts.websocket_connections, counts.websocket_messages,
            counts.limited_requests, counts.unfollowed_websockets, counts.refused_requests,
            counts.websocket_handshakes, counts.forgotten_tokens, counts.refused_elsewhere);
}

void ControlPlane::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    writer(accounts_.counts());
}

void ControlPlane::restore(ArchiveReader& reader) {
    ControlCounts counts;
    reader(counts);
    if (!reader.ok())
        return;
    const std::lock_guard lock(mutex_);
    accounts_.set_counts(std::move(counts));
}

}  // namespace pangolin
