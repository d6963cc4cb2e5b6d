// acme.json, which Traefik writes and an exporter with other rights reads. No private key survives the
// reading.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "loader/base/letter_case.h"
#include "tests/fuzz/must.h"
#include "userspace/certificates/acme_file.h"

namespace {

using Json = nlohmann::json;

// By what a parser calls them, which is not how they are written.
void must_hold_no_key(const std::string& json) {
    std::string name;
    const auto look = [&name](int, Json::parse_event_t event, const Json& parsed) {
        if (event == Json::parse_event_t::value && parsed.is_string() &&
            (pangolin::equal_ignoring_case(name, "key") || pangolin::equal_ignoring_case(name, "PrivateKey")))
            pangolin::must(parsed.get_ref<const std::string&>().find_first_not_of('-') == std::string::npos);
        name = event == Json::parse_event_t::key ? parsed.get<std::string>() : std::string();
        return true;
    };
    const Json ignored = Json::parse(json, look, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    std::string json(reinterpret_cast<const char*>(data), size);
    const auto file = parse_acme_file(json);
    if (!file)
        return 0;
    must_hold_no_key(json);
    for (const Certificate& certificate : file->certificates)
        must(!certificate.domain.empty());
    return 0;
}
