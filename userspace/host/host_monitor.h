// Starts of Pangolin and of Traefik on this host.
#pragma once

#include <sys/types.h>

#include <compare>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "userspace/host/host_snapshot.h"
#include "userspace/host/traefik_plugins.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

// A process that no later one with its number is taken for.
struct ProcessIdentity {
    pid_t pid = 0;
    std::uint64_t start_time = 0;
    auto operator<=>(const ProcessIdentity&) const = default;
};

// Looks every few seconds, in a thread of its own, at /proc alone. Traefiks that run when the exporter starts
// have fetched their plugins before it: theirs are not counted.
class HostMonitor final : public SnapshotPart {
  public:
    // The process that is Pangolin now; none while there is none. Called from one thread at a time.
    using FindPangolin = std::function<std::optional<ProcessIdentity>()>;

    explicit HostMonitor(FindPangolin find_pangolin);
    ~HostMonitor() override;

    void start() override;
    void describe(Snapshot& snapshot) const override;
    std::string_view kept_as() const override { return "host"; }
    void save(ArchiveWriter& writer) const override;
    void restore(ArchiveReader& reader) override;

    // One look, as the thread does it.
    void look();

  private:
    // A Traefik that has started and has not been seen to have its plugins, or to go without.
    struct Starting {
        std::vector<TraefikPlugin> plugins;
        std::chrono::steady_clock::time_point since;
        // Its storage was seen without any; once more, and it has failed.
        bool empty_before = false;
    };

    void look_at_pangolin();
    void look_at_traefik();
    // True when the outcome has been counted.
    bool judge(const ProcessIdentity& process, Starting& starting);
    void count(const std::vector<TraefikPlugin>& plugins,
               const std::function<bool(const TraefikPlugin&)>& good);

    FindPangolin find_pangolin_;
    bool looked_before_ = false;
    // Traefiks by what is known of their plugins: null when that has been counted.
    std::map<ProcessIdentity, std::optional<Starting>> traefiks_;

    mutable std::mutex mutex_;
    std::optional<ProcessIdentity> pangolin_;
    HostSnapshot published_;
    std::mutex wait_mutex_;
    std::condition_variable_any wake_;
    std::jthread thread_;
};

}  // namespace pangolin
