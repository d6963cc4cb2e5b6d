// Addresses of names as a process of another container finds them.
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "loader/base/ip_prefix.h"
#include "loader/network_namespace.h"

namespace pangolin {

// Addresses by name, each once, in order. A name without any is not in it.
using AddressesByName = std::map<std::string, std::vector<IpAddress>>;

// What the file /etc/hosts (hosts(5)) says of `names`. Case does not matter.
AddressesByName read_hosts(const std::string& text, const std::set<std::string>& names);

struct ForeignLookup {
    AddressesByName found;
    // Of which no name server said anything in time. What is in neither does not exist.
    std::set<std::string> unanswered;
};

// Resolves as programs do that read /etc/hosts and /etc/resolv.conf below `root` (such as "/proc/self/fd/7")
// and ask name servers from inside `netns`: Docker answers the names of a network's containers only there. An
// error when there is nothing to ask.
Result<ForeignLookup> look_up_inside(const NetworkNamespace& netns, const std::string& root,
                                     const std::set<std::string>& names,
                                     std::chrono::milliseconds time_limit);

}  // namespace pangolin
