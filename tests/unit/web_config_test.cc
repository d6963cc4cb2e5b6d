#include "exporter/web_security/web_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <chrono>
#include <string>

#include "exporter/web_security/password_check.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

const std::string hash = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";
const std::string files = "tls_server_config:\n  cert_file: a.pem\n  key_file: /etc/b.pem\n";

TEST(WebConfig, Everything) {
    const auto config = parse_web_config(files + R"(  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 192.0.2.1]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519, CurveP256]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: DENY
    Strict-Transport-Security: max-age=1
    Content-Security-Policy: ""
basic_auth_users:
  alice: )" + hash + "\nrate_limit: {interval: 1m, burst: 7}\n",
                                         "/etc/web/config.yml");
    ASSERT_TRUE(config) << config.error().message();
    const TlsServerConfig& tls = config->tls;
    EXPECT_TRUE(tls.enabled());
    EXPECT_EQ(tls.certificate.file, "/etc/web/a.pem");
    EXPECT_EQ(tls.key.file, "/etc/b.pem");
    EXPECT_EQ(tls.client_ca.file, "/etc/web/ca.pem");
    EXPECT_EQ(tls.client_auth, ClientAuth::require_and_verify_client_cert);
    EXPECT_THAT(tls.client_allowed_sans, ElementsAre("prometheus.example", "192.0.2.1"));
    EXPECT_EQ(tls.min_version, TLS1_2_VERSION);
    EXPECT_EQ(tls.max_version, TLS1_3_VERSION);
    EXPECT_THAT(tls.cipher_suites, ElementsAre("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"));
    EXPECT_THAT(tls.curves, ElementsAre("X25519", "P-256"));
    EXPECT_FALSE(tls.prefer_server_cipher_suites);
    EXPECT_THAT(config->headers,
                ElementsAre(Pair("X-Frame-Options", "DENY"), Pair("Strict-Transport-Security", "max-age=1")));
    EXPECT_THAT(config->users, ElementsAre(Pair("alice", hash)));
    EXPECT_EQ(config->rate_interval, 1min);
    EXPECT_EQ(config->rate_burst, 7U);
}

TEST(WebConfig, NothingIsAskedWhereNothingIsSaid) {
    for (const char* text :
         {"", "tls_server_config:\n", "tls_server_config: {}\nbasic_auth_users: {}\n",
          "rate_limit: {interval: 0, burst: 0}\n", "http_server_config: {http2: true}\n"}) {
        const auto config = parse_web_config(text, "web.yml");
        ASSERT_TRUE(config) << text << config.error().message();
        EXPECT_FALSE(config->tls.enabled());
        EXPECT_TRUE(config->users.empty());
        EXPECT_TRUE(config->headers.empty());
        EXPECT_EQ(config->rate_interval, 0ms);
    }
}

struct BadConfig {
    std::string text;
    const char* what;
    const char* hint;
};

TEST(WebConfig, MistakesAreNamed) {
    const BadConfig rows[] = {
        {"tls_config: {}\n", "unknown key 'tls_config'", "Valid keys are tls_server_config"},
        {"tls_server_config: {cert_file: a}\n", "'key_file' is missing", "private key"},
        {"tls_server_config: {key_file: a}\n", "'cert_file' is missing", "certificate"},
        {"tls_server_config: {min_version: TLS13}\n", "'cert_file' is missing", "certificate"},
        {"tls_server_config: {cert: x, cert_file: a, key_file: b}\n", "'cert' is given as well", "Keep one"},
        {files + "  min_version: TLS14\n", "min_version: unknown value 'TLS14'", "TLS12"},
        {files + "  min_version: TLS13\n  max_version: TLS12\n", "is below min_version", "Exchange"},
        {files + "  client_auth_type: Require\n", "client_auth_type: unknown value 'Require'", ""},
        {files + "  client_ca_file: ca\n", "client_ca_file: no client is asked", "RequireAndVerify"},
        {files + "  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [a]\n",
         "client_allowed_sans: no client must have", "RequireAndVerify"},
        {files + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n", "unknown cipher suite", "Valid cipher"},
        {files + "  curve_preferences: [CurveP25]\n", "unknown curve 'CurveP25'", "CurveP256"},
        {"http_server_config: {headers: {Server: x}}\n", "unknown key 'Server'", ""},
        {"http_server_config: {headers: {X-Frame-Options: maybe}}\n", "'maybe' is no value",
         "deny or sameorigin"},
        {"http_server_config: {headers: {X-Content-Type-Options: sniff}}\n", "'sniff' is no value",
         "nosniff"},
        {"http_server_config: {headers: {X-XSS-Protection: \"a\\r\\nb: c\"}}\n", "control characters", ""},
        {"basic_auth_users: {alice: secret}\n", "basic_auth_users.alice: is no bcrypt hash", "htpasswd"},
        {"basic_auth_users: {alice: }\n", "basic_auth_users.alice: is no bcrypt hash", "htpasswd"},
        {"basic_auth_users: {\"a:b\": " + hash + "}\n", "no colon", "another name"},
        {"basic_auth_users: [alice]\n", "expected keys and values", ""},
        {"rate_limit: {interval: 5}\n", "'5' is not a duration", "10s"},
        {"rate_limit: {interval: 1s}\n", "every request is refused", "1 or more"},
        {"rate_limit: {interval: 1s, burst: -1}\n", "burst", ""},
        {"a: [\n", "not valid YAML", ""},
    };
    for (const BadConfig& row : rows) {
        const auto config = parse_web_config(row.text, "web.yml");
        ASSERT_FALSE(config) << row.text;
        EXPECT_THAT(config.error().what, AllOf(StartsWith("web.yml:"), HasSubstr(row.what)));
        EXPECT_THAT(config.error().hint, HasSubstr(row.hint)) << row.text;
        EXPECT_EQ(config.error().message().find("secret"), std::string::npos);
    }
}

TEST(WebConfig, BcryptHashes) {
    for (const char* kind : {"$2a$", "$2b$", "$2y$"})
        EXPECT_TRUE(is_bcrypt_hash(kind + hash.substr(4)));
    for (const std::string& text :
         {std::string(), hash + "x", hash.substr(1), "$2x$" + hash.substr(4), "$2y$03$" + hash.substr(7),
          "$2y$32$" + hash.substr(7), "$2y$1x$" + hash.substr(7), hash.substr(0, 59) + "*"})
        EXPECT_FALSE(is_bcrypt_hash(text)) << text;
}

TEST(BasicAuthorization, Credentials) {
    const auto of = [](std::string_view header) {
        const auto credentials = parse_basic_authorization(header);
        return credentials ? credentials->user + "|" + credentials->password : "none";
    };
    EXPECT_EQ(of("Basic YWxpY2U6c2VjcmV0"), "alice|secret");
    EXPECT_EQ(of("basic   YWxpY2U6c2VjcmV0"), "alice|secret");
    EXPECT_EQ(of("Basic YTpiOmM="), "a|b:c");
    EXPECT_EQ(of("Basic Og=="), "|");
    // Without a colon, with a NUL in the password, not base64, another scheme.
    for (const char* header : {"Basic YWxpY2U=", "Basic YTpiAGM=", "Basic YWxpY2U6c2VjcmV", "Basic ?",
                               "Basic ", "Basic", "", "Bearer YWxpY2U6c2VjcmV0"})
        EXPECT_EQ(of(header), "none") << header;
}

}  // namespace
}  // namespace pangolin
