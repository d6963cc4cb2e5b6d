#include "userspace/persistence.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

namespace pangolin {
namespace {

// What a loss of power may cost; more often would wear out the SD cards that small hosts live on.
constexpr std::chrono::seconds disk_interval{60};

std::array<std::uint8_t, 16> random_name() {
    std::array<std::uint8_t, 16> name{};
    std::random_device random;
    for (std::uint8_t& byte : name)
        byte = static_cast<std::uint8_t>(random());
    return name;
}

}  // namespace

Result<std::unique_ptr<Persistence>> Persistence::open(const PersistenceOptions& options) {
    std::unique_ptr<Persistence> persistence(new Persistence());
    persistence->instance_ = random_name();
    persistence->pin_dir_ = options.pin_dir;
    auto file = StateFile::open(options.state_dir);
    if (!file) {
        if (file.error().code == EWOULDBLOCK)
            return std::unexpected(file.error());
        spdlog::warn("totals begin anew at each start: {}", file.error().message());
        return persistence;
    }
    persistence->file_ = std::move(*file);
    if (options.pin_dir.empty())
        return persistence;
    auto pins = PinRoot::open(options.pin_dir);
    if (pins)
        persistence->pins_ = std::move(*pins);
    else if (pins.error().code == EWOULDBLOCK)
        return std::unexpected(pins.error());
    else
        spdlog::warn("nothing is counted while the exporter is stopped: {}", pins.error().message());
    return persistence;
}

std::optional<std::vector<std::uint8_t>> Persistence::read() {
    if (!file_)
        return {};
    auto content = file_->read();
    if (content) {
        instance_ = content->instance;
        sequence_ = content->sequence;
    }
    const auto epoch = pins_ ? pins_->epoch() : std::nullopt;
    pins_understood_ =
        epoch && content && epoch->instance == content->instance && epoch->sequence <= content->sequence;
    if (epoch && !pins_understood_)
        spdlog::warn(
            "{}",
            Error{"what was counted since the totals were written is lost: the state file is older than "
                  "the kernel's counters, or not theirs",
                  "Leave metrics.state_dir as it is while the exporter is stopped.", 0}
                .message());
    if (!content)
        return {};
    return std::move(content->payload);
}

void Persistence::leave(const std::string& root) const {
    std::error_code ignored;
    if (root.empty() || std::filesystem::equivalent(root, pin_dir_, ignored))
        return;
    const auto epoch = read_pin_epoch(root);
    if (!epoch || epoch->instance != instance_ || epoch->sequence > sequence_)
        return;
    const auto detached = detach_all(root);
    if (!detached)
        spdlog::warn("programs of before are left in {}: {}", root, detached.error().message());
    else
        spdlog::warn(
            "metrics.pin_dir was {} before: what was counted there since the exporter's last end is "
            "not known any more, and {} sets of programs were detached",
            root, *detached);
}

bool Persistence::due() const {
    return file_ && (!on_disk_ || std::chrono::steady_clock::now() - *on_disk_ >= disk_interval);
}

void Persistence::write(const ArchiveWriter& state, WriteReason reason) {
    if (!file_)
        return;
    const bool on_disk = due() || reason == WriteReason::end;
    Result<void> result = file_->write(instance_, ++sequence_, state.bytes(), on_disk);
    if (result && on_disk)
        on_disk_ = std::chrono::steady_clock::now();
    // Also after a failure: what follows makes the older file useless.
    if (pins_ && reason == WriteReason::change) {
        auto noted = pins_->set_epoch({.instance = instance_, .sequence = sequence_});
        if (result)
            result = std::move(noted);
    }
    std::string trouble = result ? "" : result.error().message();
    if (!trouble.empty() && trouble != trouble_)
        spdlog::warn("a restart would lose totals: {}", trouble);
    trouble_ = std::move(trouble);
}

}  // namespace pangolin
