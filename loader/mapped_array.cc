#include "loader/mapped_array.h"

#include <sys/mman.h>

#include <cerrno>

namespace pangolin::detail {

Result<void*> map_array(int map_fd, std::size_t bytes) {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    if (memory == MAP_FAILED)
        return system_failure(errno, "cannot map a BPF array into memory",
                              "Memory-mapped BPF arrays need Linux 5.5 or newer.");
    return memory;
}

void unmap_array(void* memory, std::size_t bytes) {
    ::munmap(memory, bytes);
}

}  // namespace pangolin::detail
