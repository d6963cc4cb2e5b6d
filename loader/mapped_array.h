// A BPF array map seen as memory.
#pragma once

#include <cstddef>
#include <span>

#include "loader/base/error.h"

namespace pangolin {

// The elements of an array map made with BPF_F_MMAPABLE, mapped for reading and writing. The mapping keeps
// the map alive. Kernel programs see stores at once; use __atomic_* for what they read or write meanwhile.
template <class T>
class MappedArray {
  public:
    MappedArray() = default;
    static Result<MappedArray> map(int map_fd, std::size_t elements);
    MappedArray(MappedArray&& other) noexcept : elements_(std::exchange(other.elements_, {})) {}
    MappedArray& operator=(MappedArray&& other) noexcept {
        std::swap(elements_, other.elements_);
        return *this;
    }
    MappedArray(const MappedArray&) = delete;
    MappedArray& operator=(const MappedArray&) = delete;
    ~MappedArray();

    std::span<T> elements() const { return elements_; }

  private:
    explicit MappedArray(std::span<T> elements) : elements_(elements) {}
    std::span<T> elements_;
};

namespace detail {
Result<void*> map_array(int map_fd, std::size_t bytes);
void unmap_array(void* memory, std::size_t bytes);
}  // namespace detail

template <class T>
Result<MappedArray<T>> MappedArray<T>::map(int map_fd, std::size_t elements) {
    // The kernel lays elements out at multiples of 8 bytes (array_map_alloc in kernel/bpf/arraymap.c).
    static_assert(sizeof(T) % 8 == 0);
    const Result<void*> memory = detail::map_array(map_fd, elements * sizeof(T));
    if (!memory)
        return std::unexpected(memory.error());
    return MappedArray(std::span(static_cast<T*>(*memory), elements));
}

template <class T>
MappedArray<T>::~MappedArray() {
    if (!elements_.empty())
        detail::unmap_array(elements_.data(), elements_.size_bytes());
}

}  // namespace pangolin
