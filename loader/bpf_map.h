// Reading BPF hash maps and per-CPU counters.
#pragma once

#include <bpf/bpf.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace pangolin {

// Into a program's variables or a mapped array, which programs read meanwhile.
template <class Value>
void store_shared(Value& place, Value value) {
    __atomic_store_n(&place, value, __ATOMIC_RELAXED);
}

// The sum over all possible CPUs of one element of a per-CPU array of 64-bit counters; 0 when it cannot be
// read.
std::uint64_t read_per_cpu_sum(int map_fd, std::uint32_t key);

// The same where an element is as many counters as `sums` has.
void read_per_cpu_sums(int map_fd, std::uint32_t key, std::span<std::uint64_t> sums);

// The same where it is a struct of 64-bit counters and nothing else.
template <class Counters>
Counters read_per_cpu_sums(int map_fd, std::uint32_t key) {
    std::array<std::uint64_t, sizeof(Counters) / sizeof(std::uint64_t)> sums{};
    static_assert(sizeof sums == sizeof(Counters));
    read_per_cpu_sums(map_fd, key, sums);
    return std::bit_cast<Counters>(sums);
}

// All elements of a hash map, read in batches (Linux 5.6): a system call for each element would take a
// microsecond. Elements that come or go meanwhile may be in it or not.
template <class Key, class Value>
std::vector<std::pair<Key, Value>> read_hash(int map_fd) {
    std::vector<std::pair<Key, Value>> elements;
    std::vector<Key> keys(256);
    std::vector<Value> values(256);
    std::uint32_t position = 0;
    void* previous = nullptr;
    while (true) {
        std::uint32_t count = static_cast<std::uint32_t>(keys.size());
        const int error =
            bpf_map_lookup_batch(map_fd, previous, &position, keys.data(), values.data(), &count, nullptr);
        if (error == -ENOSPC) {
            // A bucket of the hash has more elements than fit; nothing of it was read.
            keys.resize(keys.size() * 2);
            values.resize(keys.size());
            continue;
        }
        if (error != 0 && error != -ENOENT)
            return elements;
        for (std::size_t i = 0; i < count; ++i)
            elements.emplace_back(keys[i], values[i]);
        if (error == -ENOENT)
            return elements;
        previous = &position;
    }
}

// Removes an element and returns what it was. Before Linux 5.14 in two steps: what is added between them is
// lost.
template <class Value, class Key>
std::optional<Value> take_element(int map_fd, const Key& key) {
    Value value{};
    const int error = bpf_map_lookup_and_delete_elem(map_fd, &key, &value);
    if (error == 0)
        return value;
    if (error == -ENOENT || bpf_map_lookup_elem(map_fd, &key, &value) != 0)
        return {};
    bpf_map_delete_elem(map_fd, &key);
    return value;
}

}  // namespace pangolin
