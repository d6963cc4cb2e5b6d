#include "loader/bpf_map.h"

#include <bpf/libbpf.h>

namespace pangolin {

std::uint64_t read_per_cpu_sum(int map_fd, std::uint32_t key) {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return 0;
    std::vector<std::uint64_t> values(static_cast<std::size_t>(cpus));
    if (bpf_map_lookup_elem(map_fd, &key, values.data()) != 0)
        return 0;
    std::uint64_t sum = 0;
    for (const std::uint64_t value : values)
        sum += value;
    return sum;
}

}  // namespace pangolin
