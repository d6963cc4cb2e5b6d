// The time that one network namespace's connections wait for their PostgreSQL database.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "bpf/shared/postgres_wait.h"
#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/network_namespace.h"
#include "loader/takeover.h"

struct postgres_wait_bpf;

namespace pangolin {

// Detaches at its end, but what is pinned. Not thread-safe.
class PostgresWaitProgram {
  public:
    // watch() and start() come next, in any order. Nothing is watched yet, but what the programs watch that
    // these replace. See Takeover::prepare().
    static Result<PostgresWaitProgram> load(const std::optional<KeptPins>& pins);
    PostgresWaitProgram(PostgresWaitProgram&&) noexcept;
    PostgresWaitProgram& operator=(PostgresWaitProgram&&) noexcept;
    ~PostgresWaitProgram();

    // Attaches, in the place of the programs of before. These stay where they are as long as watch() was not
    // called: somebody may still be there.
    Result<void> start();

    // From now on it is the connections to `port` of sockets in the network namespace `netns` whose cgroup is
    // `cgroup` (a folder of cgroup v2) or below. Counts go on, and so do waits when it is the same. A
    // connection that was made before is known from its next query on.
    Result<void> watch(const NetworkNamespace& netns, std::uint16_t port, const std::string& cgroup);
    // The sums over the life of its maps; all 0 when they cannot be read.
    postgres_wait read() const;
    std::size_t attachments() const { return takeover_.attachments(); }
    // Of these, at control groups.
    std::size_t cgroup_attachments() const { return takeover_.cgroup_attachments(); }

  private:
    PostgresWaitProgram() = default;

    Result<void> attach_to_cgroup();

    BpfSkeleton<postgres_wait_bpf> skeleton_;
    Takeover takeover_;
    bool started_ = false;
    // Empty: nothing is watched.
    std::string cgroup_;
};

// Of maps that are pinned there; none when there are none.
std::optional<postgres_wait> read_last_postgres_wait(const PinFolder& pins);

}  // namespace pangolin
