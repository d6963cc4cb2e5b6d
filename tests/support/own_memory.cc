#include "tests/support/own_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>

#include "loader/base/unique_fd.h"

namespace pangolin::test {
namespace {

struct Mapping {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::string line;
};

std::vector<Mapping> readable_mappings() {
    std::vector<Mapping> mappings;
    std::ifstream file("/proc/self/maps");
    for (std::string line; std::getline(file, line);) {
        Mapping mapping{.line = line};
        const char* const end = line.data() + line.size();
        const auto first = std::from_chars(line.data(), end, mapping.begin, 16);
        if (first.ptr == end)
            continue;
        const auto second = std::from_chars(first.ptr + 1, end, mapping.end, 16);
        // Larger ones are the shadows of sanitizers.
        constexpr std::uintptr_t largest = std::uintptr_t{1} << 30;
        if (second.ptr != end && second.ptr[1] == 'r' && mapping.end - mapping.begin <= largest)
            mappings.push_back(std::move(mapping));
    }
    return mappings;
}

}  // namespace

bool HiddenText::is_in(std::string_view text) const {
    return std::ranges::search(text, masked_, {}, {}, [](char byte) {
               return static_cast<char>(byte ^ mask);
           }).size() == masked_.size();
}

std::vector<std::string> find_in_own_memory(const HiddenText& text) {
    std::vector<std::string> found;
    const UniqueFd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    // A mapping of its own, which is left out of the search.
    constexpr std::size_t chunk = 1 << 20;
    void* const buffer = mmap(nullptr, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!memory || buffer == MAP_FAILED)
        return {"the memory cannot be read"};
    const auto own = reinterpret_cast<std::uintptr_t>(buffer);
    for (const Mapping& mapping : readable_mappings()) {
        for (std::uintptr_t at = mapping.begin; at < mapping.end; at += chunk - text.size()) {
            // Neighbouring mappings are shown as one.
            std::uintptr_t size = std::min<std::uintptr_t>(chunk, mapping.end - at);
            if (at < own + chunk && own < at + size) {
                if (at >= own) {
                    at = own + chunk - (chunk - text.size());
                    continue;
                }
                size = own - at;
            }
            const ssize_t got = pread(memory.get(), buffer, size, static_cast<off_t>(at));
            if (got > 0 && text.is_in({static_cast<const char*>(buffer), static_cast<std::size_t>(got)}))
                found.push_back(mapping.line);
        }
    }
    munmap(buffer, chunk);
    return found;
}

}  // namespace pangolin::test
