// acme.json, which Traefik writes and an exporter with other rights reads. No private key survives the
// reading.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/fuzz/must.h"
#include "userspace/certificates/acme_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    std::string json(reinterpret_cast<const char*>(data), size);
    constexpr std::string_view secret = R"("key":"c2VjcmV0")";
    const bool has_secret = json.find(secret) != std::string::npos;
    const auto file = parse_acme_file(json);
    must(!file || !has_secret || json.find(secret) == std::string::npos);
    if (file)
        for (const Certificate& certificate : file->certificates)
            must(!certificate.domain.empty());
    return 0;
}
