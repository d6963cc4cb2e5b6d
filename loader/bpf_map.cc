#include "loader/bpf_map.h"

#include <bpf/libbpf.h>

#include <algorithm>

namespace pangolin {

std::uint64_t read_per_cpu_sum(int map_fd, std::uint32_t key) {
    std::uint64_t sum = 0;
    read_per_cpu_sums(map_fd, key, {&sum, 1});
    return sum;
}

void read_per_cpu_sums(int map_fd, std::uint32_t key, std::span<std::uint64_t> sums) {
    std::ranges::fill(sums, 0);
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return;
    std::vector<std::uint64_t> values(static_cast<std::size_t>(cpus) * sums.size());
    if (bpf_map_lookup_elem(map_fd, &key, values.data()) != 0)
        return;
    for (std::size_t i = 0; i < values.size(); ++i)
        sums[i % sums.size()] += values[i];
}

}  // namespace pangolin
