// What all fuzzers share.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace pangolin {

// Ends the process where something does not hold, which is what libFuzzer looks for.
inline void must(bool holds) {
    if (!holds)
        std::abort();
}

// A file in memory, for readers that take a path.
class MemoryFile {
  public:
    explicit MemoryFile(std::string_view content) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        must(descriptor_ >= 0 &&
             ::write(descriptor_, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    ~MemoryFile() { ::close(descriptor_); }
    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  private:
    int descriptor_;
};

}  // namespace pangolin
