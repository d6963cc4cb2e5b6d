// Pangolin's config.yml.
#include <cstddef>
#include <cstdint>

#include "exporter/configuration.h"
#include "tests/fuzz/must.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    const MemoryFile file({reinterpret_cast<const char*>(data), size});
    const auto loaded = load_configuration(file.path());
    must(loaded || !loaded.error().message().empty());
    if (loaded && loaded->configuration)
        must(!loaded->configuration->listen.empty());
    return 0;
}
