// The hash tables that userspace fills and programs probe: each entry is in one of two places.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace pangolin {

template <class Entry>
struct CuckooTable {
    // A power of two of them.
    std::vector<Entry> entries;
    std::uint64_t seed = 0;
};

namespace detail {

template <class Entry, class Hash, class IsEmpty>
bool cuckoo_place(CuckooTable<Entry>& table, Entry entry, const Hash& hash, const IsEmpty& is_empty) {
    const std::uint64_t mask = table.entries.size() - 1;
    std::uint64_t previous = ~std::uint64_t{0};
    for (int moves = 0; moves < 256; ++moves) {
        const std::uint64_t places = hash(entry, table.seed);
        const std::uint64_t first = places & mask;
        const std::uint64_t second = places >> 32 & mask;
        for (const std::uint64_t index : {first, second}) {
            if (is_empty(table.entries[index])) {
                table.entries[index] = entry;
                return true;
            }
        }
        // Evict from the place that this entry was not itself evicted from.
        const std::uint64_t index = first == previous ? second : first;
        std::swap(entry, table.entries[index]);
        previous = index;
    }
    return false;
}

}  // namespace detail

// Places `wanted`, whose keys differ, in a table of at least `minimum` entries. `hash(entry, seed)` has the
// two places in its low and its high half, each reduced by the table's size; a value-initialised Entry
// is_empty().
//
// At a load of at most 0.4 a two-place cuckoo table with one entry a place nearly always comes out with the
// first seed; each failure tries another, and a larger table when eight in a row fail.
template <class Entry, class Hash, class IsEmpty>
CuckooTable<Entry> build_cuckoo_table(std::span<const Entry> wanted, std::size_t minimum, const Hash& hash,
                                      const IsEmpty& is_empty) {
    CuckooTable<Entry> table;
    std::size_t size = std::bit_ceil(std::max(minimum, wanted.size() * 5 / 2));
    for (;; size *= 2) {
        for (int attempt = 0; attempt < 8; ++attempt) {
            ++table.seed;
            table.entries.assign(size, Entry{});
            const auto place = [&](const Entry& entry) {
                return detail::cuckoo_place(table, entry, hash, is_empty);
            };
            if (std::ranges::all_of(wanted, place))
                return table;
        }
    }
}

// The entry of a key, given the key's hash; nullptr when it is in neither place.
template <class Entry, class IsKey>
const Entry* find_in_cuckoo_table(std::span<const Entry> entries, std::uint64_t hash, const IsKey& is_key) {
    for (const std::uint64_t place : {hash, hash >> 32}) {
        const Entry& entry = entries[place & (entries.size() - 1)];
        if (is_key(entry))
            return &entry;
    }
    return nullptr;
}

}  // namespace pangolin
