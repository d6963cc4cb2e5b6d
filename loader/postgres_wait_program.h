// The time that one network namespace's connections wait for their PostgreSQL database.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bpf/shared/postgres_wait.h"
#include "loader/base/error.h"

struct bpf_link;
struct postgres_wait_bpf;

namespace pangolin {

// Detaches at its end. Not thread-safe.
class PostgresWaitProgram {
  public:
    // Nothing is watched yet.
    static Result<PostgresWaitProgram> load();
    PostgresWaitProgram(PostgresWaitProgram&&) noexcept;
    PostgresWaitProgram& operator=(PostgresWaitProgram&&) noexcept;
    ~PostgresWaitProgram();

    // From now on it is the connections to `port` of sockets in the network namespace `netns_inode` whose
    // cgroup is `cgroup` (a folder of cgroup v2) or below. Counts go on. One that was made before is known
    // from its next query on.
    Result<void> watch(std::uint64_t netns_inode, std::uint16_t port, const std::string& cgroup);
    // The sums over its life.
    postgres_wait read() const;
    std::size_t attachments() const { return links_.size(); }

  private:
    struct SkeletonDeleter {
        void operator()(postgres_wait_bpf* skeleton) const;
    };
    struct LinkDeleter {
        void operator()(bpf_link* link) const;
    };
    using Link = std::unique_ptr<bpf_link, LinkDeleter>;
    PostgresWaitProgram() = default;

    std::unique_ptr<postgres_wait_bpf, SkeletonDeleter> skeleton_;
    // Before the skeleton at the end.
    std::vector<Link> links_;
    std::string cgroup_;
};

}  // namespace pangolin
