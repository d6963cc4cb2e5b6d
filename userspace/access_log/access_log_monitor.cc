#include "userspace/access_log/access_log_monitor.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <utility>
#include <vector>

namespace pangolin {
namespace {

using std::chrono::milliseconds;

// Where nothing is heard: also of a file that was moved elsewhere and is written to a little longer.
constexpr milliseconds look_interval{5'000};
// A busy Traefik writes thousands of lines a second: they are read together.
constexpr milliseconds gathering_time{200};

}  // namespace

AccessLogMonitor::AccessLogMonitor(std::string path) : tail_(std::move(path)), folder_(tail_.path()) {}

AccessLogMonitor::~AccessLogMonitor() {
    thread_.request_stop();
    folder_.wake();
}

void AccessLogMonitor::start() {
    look();
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void AccessLogMonitor::run(const std::stop_token& stop) {
    bool more = false;
    while (!stop.stop_requested()) {
        if (!more)
            folder_.wait(look_interval, gathering_time);
        try {
            more = look();
        } catch (const std::exception& exception) {
            spdlog::error("unexpected: {}", exception.what());
            more = false;
        }
    }
}

bool AccessLogMonitor::look() {
    folder_.renew();
    std::vector<AccessLogEntry> entries;
    std::uint64_t malformed = 0;
    const Result<bool> read = tail_.read([&](std::string_view line) {
        if (auto entry = parse_access_log_line(line))
            entries.push_back(std::move(*entry));
        else
            malformed += !line.empty();
    });
    const std::lock_guard lock(mutex_);
    for (const AccessLogEntry& entry : entries)
        accounts_.add(entry);
    position_ = tail_.position();
    if (malformed_ == 0 && malformed > 0)
        spdlog::warn(
            "{}: lines that are not JSON of Traefik's are skipped and counted (HINT: Set "
            "accessLog.format to json in Traefik's configuration.)",
            tail_.path());
    malformed_ += malformed;
    too_long_ = too_long_before_ + tail_.too_long();
    if (read)
        state_.succeeded();
    else
        state_.failed(read.error());
    return read.value_or(false);
}

void AccessLogMonitor::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    writer(position_, malformed_, too_long_);
    accounts_.save(writer);
}

void AccessLogMonitor::restore(ArchiveReader& reader) {
    LogTail::Position position;
    std::uint64_t malformed = 0;
    std::uint64_t too_long = 0;
    reader(position, malformed, too_long);
    const std::lock_guard lock(mutex_);
    accounts_.restore(reader);
    if (!reader.ok())
        return;
    malformed_ = malformed;
    too_long_ = too_long_before_ = too_long;
    if (position.inode != 0)
        tail_.resume(position);
}

void AccessLogMonitor::sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
    const std::lock_guard lock(mutex_);
    accounts_.sites_changed(directory, std::chrono::steady_clock::now());
}

void AccessLogMonitor::describe(Snapshot& snapshot) const {
    // It finds the targets' connections by those that are watched.
    const auto has = [&](std::string_view name) {
        return std::ranges::any_of(
            snapshot.features, [&](const FeatureStatus& each) { return each.name == name && each.enabled; });
    };
    const bool kernel_reads_http = has("http") && has("sockets");
    const std::lock_guard lock(mutex_);
    accounts_.add_to(snapshot, kernel_reads_http);
    snapshot.lost_updates.push_back({"access_log", "malformed", malformed_});
    snapshot.lost_updates.push_back({"access_log", "too_long", too_long_});
    snapshot.lost_updates.push_back({"access_log", "unattributed", accounts_.unattributed()});
    snapshot.sources.push_back(state_.status());
}

Result<std::uint64_t> AccessLogMonitor::inspect(const std::string& path) {
    LogTail tail(path);
    if (const auto opened = tail.read([](std::string_view) {}); !opened)
        return std::unexpected(opened.error());
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const auto size = static_cast<std::uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
    file.seekg(static_cast<std::streamoff>(size - std::min<std::uint64_t>(size, LogTail::longest_line)));
    std::string line;
    std::string last;
    while (std::getline(file, line) && !file.eof())
        last = line;
    if (!last.empty() && !parse_access_log_line(last))
        return failure(fmt::format("{}: its last line is not JSON of Traefik's", path),
                       "Set accessLog.format to json in Traefik's configuration.");
    return size;
}

}  // namespace pangolin
