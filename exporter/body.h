// The body of an HTTP answer as a sequence of blocks.
#pragma once

#include <string_view>

namespace pangolin {

// Produces its content block by block; nobody has to hold the whole.
class Body {
  public:
    Body() = default;
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    virtual ~Body() = default;
    // Valid until the next call; empty at the end.
    virtual std::string_view next_block() = 0;
};

}  // namespace pangolin
