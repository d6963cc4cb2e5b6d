// Real certificates for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pangolin {

struct CertificateRequest {
    // The first is the subject's common name as well.
    std::vector<std::string> names;
    // Unix seconds.
    std::int64_t not_after = 0;
    // Names as subjectAltName; without it there is a common name alone.
    bool alternative_names = true;
};

// A self-signed certificate with a new key on P-256, in PEM.
std::string make_certificate(const CertificateRequest& request);

// One entry of acme.json, with a real private key as Traefik writes it.
struct AcmeEntry {
    std::string main;
    std::vector<std::string> sans;
    // What base64 is made of: make_certificate(), or a chain of them.
    std::string chain;
};

// A new private key in PEM, as base64.
std::string make_private_key();

// acme.json of one resolver, "letsencrypt", indented as Traefik indents it. `key` is in every entry.
std::string acme_json(const std::vector<AcmeEntry>& entries, const std::string& key);

}  // namespace pangolin
