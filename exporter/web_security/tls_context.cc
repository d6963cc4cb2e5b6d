#include "exporter/web_security/tls_context.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <string_view>

#include "userspace/metadata/yaml_reader.h"

namespace pangolin {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

template <auto release>
struct Release {
    template <class T>
    void operator()(T* object) const {
        release(object);
    }
};
using Bio = std::unique_ptr<BIO, Release<BIO_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES_free>>;

// What OpenSSL said last, and an empty queue.
std::string openssl_error() {
    const unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    const char* const reason = ERR_reason_error_string(code);
    return reason == nullptr ? "unknown error" : reason;
}

struct Pem {
    std::string text;
    // For messages: the file, or the key of the configuration.
    std::string where;
};

Result<Pem> read(const PemSource& source, const char* key) {
    if (source.file.empty())
        return Pem{source.text, key};
    auto text = read_text_file(source.file);
    if (!text)
        return std::unexpected(text.error());
    return Pem{std::move(*text), source.file};
}

// A terminal is not asked for the password of an encrypted key.
int no_password(char*, int, int, void*) {
    return 0;
}

std::string text_of(const ASN1_STRING* string) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
            static_cast<std::size_t>(ASN1_STRING_length(string))};
}

std::string address_of(const ASN1_OCTET_STRING* address) {
    const int length = ASN1_STRING_length(address);
    std::array<char, INET6_ADDRSTRLEN> text{};
    const int family = length == 4 ? AF_INET : AF_INET6;
    if (length != 4 && length != 16)
        return {};
    return inet_ntop(family, ASN1_STRING_get0_data(address), text.data(), text.size()) == nullptr
               ? std::string()
               : text.data();
}

// OpenSSL's own names of suites that are known by IANA's, separated by colons.
std::string openssl_names(SSL_CTX* context, const std::vector<std::string>& suites) {
    const STACK_OF(SSL_CIPHER)* const ciphers = SSL_CTX_get_ciphers(context);
    std::string names;
    for (const std::string& suite : suites)
        for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
            const SSL_CIPHER* const cipher = sk_SSL_CIPHER_value(ciphers, i);
            const char* const standard = SSL_CIPHER_standard_name(cipher);
            if (standard != nullptr && suite == standard)
                names += (names.empty() ? "" : ":") + std::string(SSL_CIPHER_get_name(cipher));
        }
    return names;
}

}  // namespace

std::vector<std::string> alternative_names(const X509& certificate) {
    std::vector<std::string> result;
    const Names names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI)
            result.push_back(text_of(name->d.ia5));
        else if (name->type == GEN_IPADD)
            result.push_back(address_of(name->d.iPAddress));
    }
    return result;
}

TlsContext::TlsContext(const TlsServerConfig& config)
    : chain_matters_(config.client_auth != ClientAuth::request_client_cert &&
                     config.client_auth != ClientAuth::require_any_client_cert),
      allowed_names_(config.client_allowed_sans) {}

Result<std::shared_ptr<TlsContext>> TlsContext::load(const TlsServerConfig& config) {
    std::shared_ptr<TlsContext> context(new TlsContext(config));
    ERR_clear_error();
    SSL_CTX* const native = context->context_.native_handle();
    // A connection that waits for its next request need not keep buffers.
    SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_default_passwd_cb(native, no_password);
    for (const auto set : {&TlsContext::set_certificate, &TlsContext::set_ciphers, &TlsContext::set_clients})
        if (const Result<void> done = (*context.*set)(config); !done)
            return std::unexpected(done.error());
    return context;
}

Result<void> TlsContext::set_certificate(const TlsServerConfig& config) {
    const auto certificate = read(config.certificate, "tls_server_config.cert");
    if (!certificate)
        return std::unexpected(certificate.error());
    const auto key = read(config.key, "tls_server_config.key");
    if (!key)
        return std::unexpected(key.error());
    error_code error;
    error = context_.use_certificate_chain(asio::buffer(certificate->text), error);
    if (error)
        return failure(certificate->where + ": no certificate can be read: " + error.message(),
                       "It holds the server's certificate in PEM, and then those of its issuers.");
    ERR_clear_error();
    error = context_.use_private_key(asio::buffer(key->text), asio::ssl::context::pem, error);
    if (error && ERR_GET_REASON(static_cast<unsigned long>(error.value())) == X509_R_KEY_VALUES_MISMATCH)
        return failure(key->where + ": is not the key of the certificate in " + certificate->where,
                       "Give the two that were made together.");
    if (error)
        return failure(key->where + ": no private key can be read: " + error.message(),
                       "It holds one private key in PEM, without a password.");
    return {};
}

Result<void> TlsContext::set_ciphers(const TlsServerConfig& config) {
    SSL_CTX* const native = context_.native_handle();
    SSL_CTX_set_min_proto_version(native, config.min_version);
    SSL_CTX_set_max_proto_version(native, config.max_version);
    if (config.prefer_server_cipher_suites)
        SSL_CTX_set_options(native, SSL_OP_CIPHER_SERVER_PREFERENCE);
    // Debian's default level refuses what TLS before 1.2 is made of.
    const std::string level = config.min_version < TLS1_2_VERSION ? ":@SECLEVEL=0" : "";
    if (!config.cipher_suites.empty() || !level.empty()) {
        SSL_CTX_set_cipher_list(native, ("ALL" + level).c_str());
        const std::string names =
            config.cipher_suites.empty() ? "DEFAULT" : openssl_names(native, config.cipher_suites);
        if (SSL_CTX_set_cipher_list(native, (names + level).c_str()) != 1)
            return failure("tls_server_config.cipher_suites: " + openssl_error(),
                           "This host's OpenSSL may lack them; leave the list out.");
    }
    if (!config.curves.empty() &&
        SSL_CTX_set1_groups_list(native, fmt::format("{}", fmt::join(config.curves, ":")).c_str()) != 1)
        return failure("tls_server_config.curve_preferences: " + openssl_error(),
                       "This host's OpenSSL may lack them; leave the list out.");
    return {};
}

Result<void> TlsContext::set_clients(const TlsServerConfig& config) {
    if (config.client_auth == ClientAuth::no_client_cert)
        return {};
    SSL_CTX* const native = context_.native_handle();
    const bool required = config.client_auth == ClientAuth::require_any_client_cert ||
                          config.client_auth == ClientAuth::require_and_verify_client_cert;
    SSL_CTX_set_verify(native, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    SSL_CTX_set_cert_verify_callback(native, &TlsContext::verify, this);
    // Sessions are taken up again only where their client was asked the same.
    constexpr std::string_view session_context = "pangolin_exporter";
    SSL_CTX_set_session_id_context(native, reinterpret_cast<const unsigned char*>(session_context.data()),
                                   static_cast<unsigned>(session_context.size()));
    if (!config.client_ca.given()) {
        SSL_CTX_set_default_verify_paths(native);
        return {};
    }
    const auto authorities = read(config.client_ca, "tls_server_config.client_ca");
    if (!authorities)
        return std::unexpected(authorities.error());
    const Bio memory(BIO_new_mem_buf(authorities->text.data(), static_cast<int>(authorities->text.size())));
    int count = 0;
    while (const Certificate authority{PEM_read_bio_X509(memory.get(), nullptr, no_password, nullptr)}) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(native), authority.get());
        SSL_CTX_add_client_CA(native, authority.get());
        ++count;
    }
    ERR_clear_error();
    if (count == 0)
        return failure(authorities->where + ": no certificate can be read",
                       "It holds the certificates of the clients' issuers in PEM.");
    return {};
}

int TlsContext::verify(X509_STORE_CTX* store, void* self) {
    const auto& context = *static_cast<const TlsContext*>(self);
    if (context.chain_matters_ && X509_verify_cert(store) != 1)
        return 0;
    if (context.allowed_names_.empty())
        return 1;
    const X509* const certificate = X509_STORE_CTX_get0_cert(store);
    const auto names = certificate == nullptr ? std::vector<std::string>() : alternative_names(*certificate);
    if (std::ranges::find_first_of(names, context.allowed_names_) != names.end())
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

}  // namespace pangolin
