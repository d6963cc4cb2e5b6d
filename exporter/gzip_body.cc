#include "exporter/gzip_body.h"

#include <new>
#include <utility>

namespace pangolin {

namespace {

// The text repeats itself so much that the fastest level makes it ten times shorter already; higher ones cost
// several times the CPU for little.
constexpr int level = 1;
constexpr int window_bits = 15;
constexpr int gzip_format = 16;
constexpr int memory_level = 8;

}  // namespace

GzipBody::GzipBody(std::unique_ptr<Body> plain)
    : plain_(std::move(plain)), block_(std::make_unique_for_overwrite<unsigned char[]>(block_size)) {
    if (deflateInit2(&stream_, level, Z_DEFLATED, window_bits + gzip_format, memory_level,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::bad_alloc();
}

GzipBody::~GzipBody() {
    deflateEnd(&stream_);
}

std::string_view GzipBody::next_block() {
    stream_.next_out = block_.get();
    stream_.avail_out = block_size;
    while (!done_ && stream_.avail_out > 0) {
        if (stream_.avail_in == 0 && !plain_ended_) {
            const std::string_view input = plain_->next_block();
            plain_ended_ = input.empty();
            // zlib does not write through next_in; its type lacks a const for old callers' sake.
            stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
            stream_.avail_in = static_cast<uInt>(input.size());
        }
        done_ = deflate(&stream_, plain_ended_ ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_END;
    }
    return {reinterpret_cast<const char*>(block_.get()), block_size - stream_.avail_out};
}

}  // namespace pangolin
