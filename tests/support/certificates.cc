#include "tests/support/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace pangolin {
namespace {

template <auto free>
struct Free {
    template <class T>
    void operator()(T* object) const {
        free(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using X509Pointer = std::unique_ptr<X509, Free<X509_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;

void must(bool good) {
    if (!good)
        throw std::runtime_error("OpenSSL failed");
}

std::string contents(BIO* bio) {
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio, &text);
    return {text, static_cast<std::size_t>(size)};
}

void add_names(X509* certificate, const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names)
        text += (text.empty() ? "DNS:" : ",DNS:") + name;
    const std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>> extension(
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, text.c_str()));
    must(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1);
}

std::string base64(const std::string& bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int length =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(length));
    return text;
}

}  // namespace

std::string make_certificate(const CertificateRequest& request) {
    const Key key(EVP_EC_gen("P-256"));
    const X509Pointer certificate(X509_new());
    must(key && certificate);
    std::int64_t serial = 0;
    must(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), 7) == 1);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate.get()), serial);
    must(ASN1_TIME_set(X509_getm_notBefore(certificate.get()), request.not_after - 90L * 86400) != nullptr);
    must(ASN1_TIME_set(X509_getm_notAfter(certificate.get()), request.not_after) != nullptr);
    X509_NAME* const subject = X509_get_subject_name(certificate.get());
    const std::string common = request.names.empty() ? "" : request.names.front();
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate.get(), subject);
    X509_set_pubkey(certificate.get(), key.get());
    if (request.alternative_names && !request.names.empty())
        add_names(certificate.get(), request.names);
    must(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
    const Bio pem(BIO_new(BIO_s_mem()));
    must(PEM_write_bio_X509(pem.get(), certificate.get()) == 1);
    return contents(pem.get());
}

std::string make_private_key() {
    const Key key(EVP_EC_gen("P-256"));
    const Bio pem(BIO_new(BIO_s_mem()));
    must(key && PEM_write_bio_PrivateKey(pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
    return base64(contents(pem.get()));
}

std::string acme_json(const std::vector<AcmeEntry>& entries, const std::string& key) {
    nlohmann::ordered_json certificates = nlohmann::ordered_json::array();
    for (const AcmeEntry& entry : entries) {
        nlohmann::ordered_json domain{{"main", entry.main}};
        if (!entry.sans.empty())
            domain["sans"] = entry.sans;
        certificates.push_back(
            {{"domain", domain}, {"certificate", base64(entry.chain)}, {"key", key}, {"Store", "default"}});
    }
    const nlohmann::ordered_json account{
        {"Email", "admin@example.com"}, {"PrivateKey", key}, {"KeyType", "4096"}};
    const nlohmann::ordered_json document{
        {"letsencrypt", {{"Account", account}, {"Certificates", certificates}}}};
    return document.dump(2);
}

}  // namespace pangolin
