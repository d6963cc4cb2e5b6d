// Owners of what libbpf makes.
#pragma once

#include <memory>

struct bpf_link;

namespace pangolin {

// Detaches, unless the link is pinned.
struct BpfLinkDeleter {
    void operator()(bpf_link* link) const;
};
using BpfLink = std::unique_ptr<bpf_link, BpfLinkDeleter>;

// A BPF object as bpftool's skeleton of it ("tcp_bpf" in tcp.skel.h), which has to be known where one is made
// or ended.
template <class Skeleton>
struct BpfSkeletonDeleter {
    void operator()(Skeleton* skeleton) const { Skeleton::destroy(skeleton); }
};
template <class Skeleton>
using BpfSkeleton = std::unique_ptr<Skeleton, BpfSkeletonDeleter<Skeleton>>;

}  // namespace pangolin
