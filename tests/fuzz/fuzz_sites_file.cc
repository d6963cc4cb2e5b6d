// A sites.yml.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/must.h"
#include "userspace/metadata/site_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    const MemoryFile file({reinterpret_cast<const char*>(data), size});
    const auto directory = make_sites_file_source(file.path())->read();
    if (!directory)
        return 0;
    for (const Target& target : directory->targets)
        must(target.resource < directory->resources.size() &&
             (!target.site || *target.site < directory->sites.size()));
    for (std::size_t i = 1; i < directory->sites.size(); ++i)
        must(directory->sites[i - 1].site_id < directory->sites[i].site_id);
    return 0;
}
