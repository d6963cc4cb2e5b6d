// The file of --web.config.file: TLS, users, headers and a rate of requests, in the format of Prometheus'
// exporter-toolkit (its docs/web-configuration.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

// PEM, in the configuration itself or in a file; neither: not given.
struct PemSource {
    std::string text;
    std::string file;

    bool given() const { return !text.empty() || !file.empty(); }
};

// Go's tls.ClientAuthType, whose names the file uses.
enum class ClientAuth : std::uint8_t {
    no_client_cert,
    request_client_cert,
    require_any_client_cert,
    verify_client_cert_if_given,
    require_and_verify_client_cert,
};

struct TlsServerConfig {
    PemSource certificate;
    PemSource key;
    PemSource client_ca;
    ClientAuth client_auth = ClientAuth::no_client_cert;
    // A client's certificate must have one of these as its subject alternative name; empty: any will do.
    std::vector<std::string> client_allowed_sans;
    // By their names at IANA, for TLS up to 1.2; empty: OpenSSL's own choice.
    std::vector<std::string> cipher_suites;
    // By OpenSSL's names; empty: its own choice.
    std::vector<std::string> curves;
    // TLS1_2_VERSION and so on.
    int min_version = 0;
    int max_version = 0;
    bool prefer_server_cipher_suites = true;

    bool enabled() const { return certificate.given(); }
};

struct WebConfig {
    TlsServerConfig tls;
    // For every answer.
    std::vector<std::pair<std::string, std::string>> headers;
    // Name and bcrypt hash; empty: nobody is asked.
    std::map<std::string, std::string> users;
    // One request each `rate_interval` on average, `rate_burst` at once; 0: no limit.
    std::chrono::milliseconds rate_interval{0};
    unsigned rate_burst = 0;
};

// Paths in the file are relative to its folder. Does not look into the files that it names.
Result<WebConfig> read_web_config(const std::string& path);

// As read_web_config(), of a file's content.
Result<WebConfig> parse_web_config(const std::string& text, const std::string& path);

// Whether `text` is a bcrypt hash that can be compared with.
bool is_bcrypt_hash(std::string_view text);

}  // namespace pangolin
