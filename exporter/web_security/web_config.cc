#include "exporter/web_security/web_config.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "exporter/configuration_schema.h"
#include "exporter/duration.h"
#include "loader/base/number.h"
#include "userspace/metadata/text.h"
#include "userspace/metadata/yaml_reader.h"

namespace pangolin {
namespace {

constexpr std::array<YamlChoice<ClientAuth>, 6> client_auths{
    {{"NoClientCert", ClientAuth::no_client_cert},
     {"RequestClientCert", ClientAuth::request_client_cert},
     {"RequireAnyClientCert", ClientAuth::require_any_client_cert},
     {"RequireClientCert", ClientAuth::require_any_client_cert},
     {"VerifyClientCertIfGiven", ClientAuth::verify_client_cert_if_given},
     {"RequireAndVerifyClientCert", ClientAuth::require_and_verify_client_cert}}};
constexpr std::array<YamlChoice<int>, 4> versions{{{"TLS10", TLS1_VERSION},
                                                   {"TLS11", TLS1_1_VERSION},
                                                   {"TLS12", TLS1_2_VERSION},
                                                   {"TLS13", TLS1_3_VERSION}}};
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> known_curves{
    {{"CurveP256", "P-256"}, {"CurveP384", "P-384"}, {"CurveP521", "P-521"}, {"X25519", "X25519"}}};
// Those of Go's tls.CipherSuites(). The first three are TLS 1.3's, which has no others and no choice.
constexpr std::array<std::string_view, 13> known_suites{"TLS_AES_128_GCM_SHA256",
                                                        "TLS_AES_256_GCM_SHA384",
                                                        "TLS_CHACHA20_POLY1305_SHA256",
                                                        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
                                                        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
                                                        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
                                                        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
                                                        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                                                        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                                                        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                                                        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                                                        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                                                        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"};
constexpr std::size_t suites_of_tls13 = 3;
// A request an hour is no limit that anybody means; a burst beyond this is none at all.
constexpr auto greatest_interval = std::chrono::hours(1);
constexpr std::int64_t greatest_burst = 1'000'000;

PemSource read_pem(YamlMapping& tls, const char* key, const char* file_key, const std::string& folder) {
    PemSource source;
    tls.text(key, source.text);
    tls.text(file_key, source.file);
    source.file = resolve_path(folder, source.file);
    if (!source.text.empty() && !source.file.empty())
        tls.problem(file_key, fmt::format("'{}' is given as well", key), "Keep one of the two.");
    return source;
}

void read_suites(YamlMapping& tls, std::vector<std::string>& suites) {
    std::vector<std::string> names;
    tls.texts("cipher_suites", names);
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto found = std::ranges::find(known_suites, names[i]);
        if (found == known_suites.end())
            tls.problem_at("cipher_suites", i, "unknown cipher suite " + in_quotes(names[i]),
                           suggestion(names[i], known_suites, "cipher suites"));
        else if (found - known_suites.begin() >= static_cast<std::ptrdiff_t>(suites_of_tls13))
            suites.push_back(names[i]);
    }
}

void read_curves(YamlMapping& tls, std::vector<std::string>& curves) {
    std::vector<std::string> names;
    tls.texts("curve_preferences", names);
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto* const found =
            std::ranges::find(known_curves, names[i], &decltype(known_curves)::value_type::first);
        if (found == known_curves.end())
            tls.problem_at("curve_preferences", i, "unknown curve " + in_quotes(names[i]),
                           "Valid curves are CurveP256, CurveP384, CurveP521, X25519.");
        else
            curves.emplace_back(found->second);
    }
}

// What clients must show is only asked where a policy says so.
void check_clients(YamlMapping& tls, const TlsServerConfig& value) {
    const bool required = value.client_auth == ClientAuth::require_any_client_cert ||
                          value.client_auth == ClientAuth::require_and_verify_client_cert;
    if (value.client_ca.given() && value.client_auth == ClientAuth::no_client_cert)
        tls.problem(value.client_ca.file.empty() ? "client_ca" : "client_ca_file",
                    "no client is asked for a certificate",
                    "Set client_auth_type to RequireAndVerifyClientCert.");
    if (!value.client_allowed_sans.empty() && !required)
        tls.problem("client_allowed_sans", "no client must have a certificate",
                    "Set client_auth_type to RequireAndVerifyClientCert.");
}

void read_tls(YamlMapping tls, const std::string& folder, TlsServerConfig& value) {
    value.certificate = read_pem(tls, "cert", "cert_file", folder);
    value.key = read_pem(tls, "key", "key_file", folder);
    value.client_ca = read_pem(tls, "client_ca", "client_ca_file", folder);
    tls.choice<ClientAuth>("client_auth_type", value.client_auth, client_auths);
    tls.texts("client_allowed_sans", value.client_allowed_sans);
    value.min_version = TLS1_2_VERSION;
    value.max_version = TLS1_3_VERSION;
    tls.choice<int>("min_version", value.min_version, versions);
    tls.choice<int>("max_version", value.max_version, versions);
    if (value.min_version > value.max_version)
        tls.problem("max_version", "is below min_version", "Exchange the two, or leave max_version out.");
    read_suites(tls, value.cipher_suites);
    read_curves(tls, value.curves);
    tls.boolean("prefer_server_cipher_suites", value.prefer_server_cipher_suites);
    tls.finish();
    check_clients(tls, value);
    // A section that sets anything means TLS: without a certificate the endpoint would be open, unnoticed.
    if (tls.empty())
        return;
    if (!value.certificate.given())
        tls.require("cert_file", "Name a file with the server's certificate in PEM.");
    if (!value.key.given())
        tls.require("key_file", "Name a file with the certificate's private key in PEM.");
}

struct HeaderRule {
    const char* name;
    std::vector<std::string_view> values;  // in lower case; empty: any
};

void read_headers(YamlMapping headers, std::vector<std::pair<std::string, std::string>>& result) {
    static const std::vector<HeaderRule> rules{{"Content-Security-Policy", {}},
                                               {"X-Frame-Options", {"deny", "sameorigin"}},
                                               {"X-Content-Type-Options", {"nosniff"}},
                                               {"X-XSS-Protection", {}},
                                               {"Strict-Transport-Security", {}}};
    for (const HeaderRule& rule : rules) {
        std::string value;
        headers.text(rule.name, value);
        if (value.empty())
            continue;
        std::string lower = value;
        std::ranges::transform(lower, lower.begin(), [](unsigned char c) {
            return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        });
        if (std::ranges::any_of(value, [](unsigned char c) { return c < ' ' || c == 0x7f; }))
            headers.problem(rule.name, "has control characters", "Write it on one line.");
        else if (!rule.values.empty() && std::ranges::find(rule.values, lower) == rule.values.end())
            headers.problem(rule.name, in_quotes(value) + " is no value of this header",
                            fmt::format("Write {}.", fmt::join(rule.values, " or ")));
        else
            result.emplace_back(rule.name, value);
    }
    headers.finish();
}

void read_http(YamlMapping http, WebConfig& value) {
    // Accepted, and no more than HTTP/1.1 is offered: clients choose it.
    bool http2 = true;
    http.boolean("http2", http2);
    read_headers(http.mapping("headers"), value.headers);
    http.finish();
}

void read_users(YamlMapping users, std::map<std::string, std::string>& value) {
    const std::vector<std::string> names = users.keys();
    for (const std::string& name : names) {
        std::string hash;
        users.text(name, hash);
        if (!is_bcrypt_hash(hash))
            users.problem(
                name, "is no bcrypt hash",
                "Make one with: htpasswd -nBC 10 '' | tr -d ':\\n'. The password itself is not kept.");
        else if (name.find(':') != std::string::npos)
            users.problem(name, "a user's name has no colon (RFC 7617)", "Choose another name.");
        value[name] = hash;
    }
    users.finish();
}

void read_rate(YamlMapping rate, WebConfig& value) {
    rate.parsed("interval", value.rate_interval, [](std::string_view text) {
        return text == "0" ? std::chrono::milliseconds(0)
                           : parse_duration(text, std::chrono::milliseconds(0), greatest_interval);
    });
    rate.integer("burst", value.rate_burst, 0, greatest_burst);
    if (value.rate_interval.count() > 0 && value.rate_burst == 0)
        rate.problem("burst", "with no burst every request is refused", "Set it to 1 or more.");
    rate.finish();
}

}  // namespace

bool is_bcrypt_hash(std::string_view text) {
    // "$2y$10$" and 53 characters: 22 of the salt, 31 of the hash.
    constexpr std::size_t length = 60;
    constexpr std::string_view alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if (text.size() != length || !text.starts_with("$2") || text[3] != '$' || text[6] != '$' ||
        std::string_view("aby").find(text[2]) == std::string_view::npos)
        return false;
    const auto cost = parse_number<unsigned>(text.substr(4, 2));
    return cost && *cost >= 4 && *cost <= 31 &&
           text.substr(7).find_first_not_of(alphabet) == std::string_view::npos;
}

Result<WebConfig> parse_web_config(const std::string& text, const std::string& path) {
    const auto document = parse_yaml(text, path);
    if (!document)
        return std::unexpected(document.error());
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
    YamlProblems problems(path);
    YamlMapping root(*document, "", problems);
    WebConfig config;
    read_tls(root.mapping("tls_server_config"), folder, config.tls);
    read_http(root.mapping("http_server_config"), config);
    read_users(root.mapping("basic_auth_users"), config.users);
    read_rate(root.mapping("rate_limit"), config);
    root.finish();
    if (const auto result = problems.result(); !result)
        return std::unexpected(result.error());
    return config;
}

Result<WebConfig> read_web_config(const std::string& path) {
    const auto text = read_text_file(path);
    if (!text)
        return std::unexpected(text.error());
    return parse_web_config(*text, path);
}

}  // namespace pangolin
