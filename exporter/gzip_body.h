// Compression on the way out.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "exporter/body.h"

namespace pangolin {

// Another body in gzip's format. It holds some 320 KB, zlib's state included, whatever the body's length.
class GzipBody final : public Body {
  public:
    // Throws std::bad_alloc.
    explicit GzipBody(std::unique_ptr<Body> plain);
    GzipBody(const GzipBody&) = delete;
    GzipBody& operator=(const GzipBody&) = delete;
    ~GzipBody() override;

    std::string_view next_block() override;

  private:
    static constexpr std::size_t block_size = std::size_t{64} * 1024;

    std::unique_ptr<Body> plain_;
    std::unique_ptr<unsigned char[]> block_;
    z_stream stream_{};
    bool plain_ended_ = false;
    bool done_ = false;
};

}  // namespace pangolin
