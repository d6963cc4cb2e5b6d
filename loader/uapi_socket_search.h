// Which UAPI socket belongs to a TUN link.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/network_namespace.h"

namespace pangolin {

struct TunLink {
    NetworkNamespace netns;
    std::string name;
    // No other namespace that is looked at has a TUN link of that name. Only then may the socket's owner be
    // in another namespace than the link, which happens when a TUN link is moved.
    bool name_is_unique = false;
};

// One search over the sockets that can be seen now; make a new one each time. Costs nothing until asked.
class UapiSocketSearch {
  public:
    // The path of the socket that answers for `link`; empty when there is none, an error when there is one
    // that may not be talked to.
    Result<std::string> find(const TunLink& link);

    // The same question of one socket that was found earlier.
    static bool still_answers(const std::string& path, const TunLink& link);

  private:
    const std::vector<pid_t>& mount_namespaces_in(const NetworkNamespaceId& netns);

    bool looked_at_processes_ = false;
    // One process for each mount namespace (other than ours) of the processes in a network namespace.
    std::map<NetworkNamespaceId, std::vector<pid_t>> processes_;
};

}  // namespace pangolin
