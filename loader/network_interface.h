// What makes a network interface the same one.
#pragma once

#include <cstdint>
#include <string>

#include "loader/network_namespace.h"

namespace pangolin {

// Identified by namespace and index: an index alone repeats in every namespace.
struct NetworkInterface {
    NetworkNamespace netns;
    // The namespace's number that is never used again, where the kernel has one (Linux 5.14), else 0. It
    // tells a restarted container's wg0 from the one before, when inode, index and name are all the same
    // again.
    std::uint64_t netns_cookie = 0;
    unsigned index = 0;
    std::string name;

    bool same_as(const NetworkInterface& other) const {
        return netns.id == other.netns.id && netns_cookie == other.netns_cookie && index == other.index &&
               name == other.name;
    }
};

}  // namespace pangolin
