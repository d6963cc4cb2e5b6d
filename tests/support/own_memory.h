// Looks for bytes in this process's whole memory, as somebody with a core dump would.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pangolin::test {

// Bytes that are never in memory as they are, unless somebody writes them out with reveal(): else a search
// would find the searcher's own copy.
class HiddenText {
  public:
    // `make` writes one byte of the text after the other.
    template <class Make>
    HiddenText(std::size_t size, Make make) {
        for (std::size_t i = 0; i < size; ++i)
            masked_ += static_cast<char>(make(i) ^ mask);
    }

    std::size_t size() const { return masked_.size(); }
    // Writes the text to `to`, which the caller wipes.
    void reveal(char* to) const {
        for (const char byte : masked_)
            *to++ = static_cast<char>(byte ^ mask);
    }
    // Whether `text` holds it.
    bool is_in(std::string_view text) const;

  private:
    static constexpr char mask = 0x55;
    std::string masked_;
};

// The names of the mappings of this process (from /proc/self/maps) that hold the text, one for each place.
std::vector<std::string> find_in_own_memory(const HiddenText& text);

}  // namespace pangolin::test
