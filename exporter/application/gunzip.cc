#include "exporter/application/gunzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace pangolin {

namespace {

constexpr int window_bits = 15;
constexpr int gzip_format = 16;

// Frees zlib's memory.
class Inflation {
  public:
    Inflation() { good_ = inflateInit2(&stream, window_bits + gzip_format) == Z_OK; }
    Inflation(const Inflation&) = delete;
    Inflation& operator=(const Inflation&) = delete;
    ~Inflation() {
        if (good_)
            inflateEnd(&stream);
    }
    bool good() const { return good_; }

    z_stream stream{};

  private:
    bool good_ = false;
};

}  // namespace

Result<std::string> gunzip(std::string_view packed, std::size_t limit) {
    Inflation inflation;
    if (!inflation.good())
        return failure("no memory to unpack", {}, ENOMEM);
    z_stream& stream = inflation.stream;
    // zlib does not write through next_in; its type lacks a const for old callers' sake.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    std::string plain;
    std::array<char, 65536> block{};
    for (;;) {
        stream.next_out = reinterpret_cast<Bytef*>(block.data());
        stream.avail_out = block.size();
        const int status = inflate(&stream, Z_NO_FLUSH);
        const std::size_t bytes = block.size() - stream.avail_out;
        if (plain.size() + bytes > limit)
            return failure("the unpacked body is longer than " + std::to_string(limit) + " bytes", {}, E2BIG);
        plain.append(block.data(), bytes);
        if (status == Z_STREAM_END) {
            if (stream.avail_in == 0)
                return plain;
            // Another member follows.
            if (inflateReset(&stream) != Z_OK)
                return failure("the body is no gzip", {}, EINVAL);
        } else if (status != Z_OK || (stream.avail_in == 0 && stream.avail_out > 0)) {
            return failure("the body is no gzip, or ends too early", {}, EINVAL);
        }
    }
}

}  // namespace pangolin
