// Bodies of POST /v1/metrics, in JSON.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzz_otlp.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    pangolin::fuzz_otlp({reinterpret_cast<const char*>(data), size}, pangolin::OtlpEncoding::json);
    return 0;
}
