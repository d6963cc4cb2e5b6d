// Two network namespaces of the test's own with a link between them: the host's side, and a far side.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/network_interface.h"
#include "tests/support/namespace_child.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {

// The calling thread is in the near one until the end. Both have 127.0.0.1; the near side of the link is
// pgx0 with 10.89.0.1/24 and fd89::1/64, the far side is pgx1 with 10.89.0.2/24 and fd89::2/64.
class LinkedNamespaces {
  public:
    LinkedNamespaces();

    bool ready() const { return ready_; }
    const NetworkInterface& near_interface() const { return near_interface_; }
    const NetworkNamespace& far() const { return far_.netns(); }

    // Runs a shell command; says whether it ended with 0.
    static bool run(const std::string& command);
    bool run_far(const std::string& command) const;
    // The first number in what a shell command prints; -1 when there is none.
    static std::int64_t number_of(const std::string& command);
    // What `open` opens, made in the far namespace.
    UniqueFd far_socket(const std::function<UniqueFd()>& open) const;

  private:
    NewNetworkNamespace near_;
    NamespaceChild far_;
    NetworkInterface near_interface_;
    bool ready_ = false;
};

}  // namespace pangolin::test
