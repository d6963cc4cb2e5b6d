#include "userspace/certificates/certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "userspace/utf8.h"

namespace pangolin {
namespace {

// A certificate for more names than a CA signs (Let's Encrypt: 100) is no real one.
constexpr int most_names = 1000;
// RFC 1035 section 2.3.4, with a root dot.
constexpr std::size_t longest_name = 254;

struct FreeBio {
    void operator()(BIO* bio) const { BIO_free(bio); }
};
struct FreeX509 {
    void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeNames {
    void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

// The chain has certificates only: a passphrase that an encrypted block would ask for is not given, and
// nobody is at the terminal.
int no_passphrase(char*, int, int, void*) {
    return -1;
}

std::vector<std::string> dns_names(X509* certificate) {
    const std::unique_ptr<GENERAL_NAMES, FreeNames> all(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    std::vector<std::string> names;
    const int count = std::min(sk_GENERAL_NAME_num(all.get()), most_names);
    for (int i = 0; i < count; ++i) {
        const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
        if (name->type != GEN_DNS)
            continue;
        const std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                                    static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
        if (!text.empty() && text.size() <= longest_name)
            names.push_back(normal_host_name(text));
    }
    return names;
}

}  // namespace

std::string normal_host_name(std::string_view name) {
    if (name.size() > 1 && name.ends_with('.'))
        name.remove_suffix(1);
    std::string normal = valid_utf8(name);
    std::ranges::transform(normal, normal.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return normal;
}

Result<Certificate> read_leaf_certificate(std::string_view pem) {
    const std::unique_ptr<BIO, FreeBio> text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    const std::unique_ptr<X509, FreeX509> parsed(
        text ? PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr) : nullptr);
    ERR_clear_error();
    if (!parsed)
        return failure("holds no certificate in PEM");
    std::tm time{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(parsed.get()), &time) != 1)
        return failure("holds a certificate with an unreadable date of expiry");
    Certificate certificate;
    certificate.not_after = timegm(&time);
    certificate.names = dns_names(parsed.get());
    unsigned length = 0;
    X509_digest(parsed.get(), EVP_sha256(), certificate.identity.data(), &length);
    ERR_clear_error();
    return certificate;
}

}  // namespace pangolin
