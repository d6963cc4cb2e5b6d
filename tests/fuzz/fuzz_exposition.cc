// Pages of other programs' metrics, in both formats: the first byte chooses.
#include <cstddef>
#include <cstdint>

#include "exporter/application/exposition_parser.h"
#include "tests/fuzz/fuzz_otlp.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    if (size == 0)
        return 0;
    const auto format = data[0] % 2 == 0 ? ExpositionFormat::text : ExpositionFormat::open_metrics;
    const std::string_view page(reinterpret_cast<const char*>(data + 1), size - 1);
    auto parsed = parse_exposition(page, format, {.line_bytes = 4096, .samples = 1000});
    if (!parsed)
        return 0;
    ApplicationMetrics registry;
    registry.replace("scrape:fuzz", std::move(parsed->families));
    check_both_formats(registry);
    return 0;
}
