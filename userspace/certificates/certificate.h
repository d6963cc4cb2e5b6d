// A TLS certificate, as far as it is published.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

struct Certificate {
    // The label `domain`: the name that it was asked for under.
    std::string domain;
    // DNS names that it is valid for, as normal_host_name() writes them; a wildcard is "*.example.com".
    std::vector<std::string> names;
    // Unix seconds.
    std::int64_t not_after = 0;
    // SHA-256 of the certificate, or whatever else changes when it is renewed.
    std::array<std::uint8_t, 32> identity{};
};

// Host names compare without regard to case and to the root's dot (RFC 4343, RFC 1034 section 3.1). Bytes
// that are no UTF-8 are replaced.
std::string normal_host_name(std::string_view name);

// The first certificate of a chain in PEM, which is the server's own (RFC 8446 section 4.4.2). Names are
// those of the extension subjectAltName alone (RFC 9525 section 2); `domain` is left empty.
Result<Certificate> read_leaf_certificate(std::string_view pem);

}  // namespace pangolin
