// Traefik's acme.json: the certificates that it got from a CA, with their private keys.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "userspace/certificates/certificate.h"

namespace pangolin {

// More than this is not read: some 5,000 certificates take 64 MiB.
inline constexpr std::size_t largest_acme_file = 64 << 20;

struct AcmeFile {
    std::vector<Certificate> certificates;
    // Entries that were left out, a line each: "the certificate for 'example.com' holds ...".
    std::vector<std::string> problems;
};

// Overwrites every string that JSON calls "key" or "PrivateKey" (in any case, or with escapes), so that no
// parser ever copies one. What is no JSON may be changed in any way.
void erase_private_keys(std::span<char> json);

// Reads the format of Traefik 2 and 3 (pkg/provider/acme/local_store.go, StoredData): an object by resolver,
// each with "Certificates", a list of {"domain": {"main", "sans"}, "certificate": base64 of PEM, "key"}.
// `json` is overwritten where private keys are. Fails when it is not JSON, as a file that is being written
// is not.
Result<AcmeFile> parse_acme_file(std::span<char> json);

}  // namespace pangolin
