// Packed bodies of requests: what comes out is never more than asked for, whatever goes in.
#include <cstddef>
#include <cstdint>

#include "exporter/application/gunzip.h"
#include "tests/fuzz/must.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    constexpr std::size_t limit = 100'000;
    const auto unpacked = gunzip({reinterpret_cast<const char*>(data), size}, limit);
    must(!unpacked || unpacked->size() <= limit);
    return 0;
}
