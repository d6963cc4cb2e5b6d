#include "userspace/certificates/acme_file.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "loader/base/letter_case.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using Json = nlohmann::json;

// A chain of three RSA-4096 certificates has some 10 kB.
constexpr std::size_t longest_chain = 256 << 10;
// RFC 1035 section 2.3.4, with the "*." of a wildcard and a root dot.
constexpr std::size_t longest_domain = 256;

// A name with an escape in it may mean anything once it is parsed (k\u0065y). Traefik writes none above a
// string.
bool may_be_secret(std::string_view name) {
    return equal_ignoring_case(name, "key") || equal_ignoring_case(name, "PrivateKey") || name.contains('\\');
}

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The inside of the string whose opening quote is at `begin`; to the end of the text when it is not closed.
std::span<char> inside_string(std::span<char> json, std::size_t begin) {
    std::size_t end = begin + 1;
    while (end < json.size() && json[end] != '"')
        end += json[end] == '\\' ? 2 : 1;
    end = std::min(end, json.size());
    return json.subspan(std::min(begin + 1, end), end - std::min(begin + 1, end));
}

std::string text_of(const Json& object, const char* key) {
    if (!object.is_object())
        return {};
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<std::string> decode_base64(std::string_view text) {
    if (text.size() > longest_chain)
        return failure("is longer than any chain of certificates");
    std::string decoded(text.size() / 4 * 3 + 3, '\0');
    const int length =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (length < 0)
        return failure("is not base64");
    decoded.resize(static_cast<std::size_t>(length));
    return decoded;
}

// Where the entry names no main domain, Traefik's first other one stands for it.
std::string domain_of(const Json& entry) {
    const auto domain = entry.find("domain");
    if (domain == entry.end() || !domain->is_object())
        return {};
    std::string main = text_of(*domain, "main");
    if (main.empty())
        if (const auto names = domain->find("sans");
            names != domain->end() && names->is_array() && !names->empty() && names->front().is_string())
            main = names->front().get<std::string>();
    return normal_host_name(main);
}

Result<Certificate> read_entry(const Json& entry) {
    const auto pem = decode_base64(text_of(entry, "certificate"));
    if (!pem)
        return std::unexpected(pem.error());
    return read_leaf_certificate(*pem);
}

void add_entry(const Json& entry, AcmeFile& file) {
    std::string domain = entry.is_object() ? domain_of(entry) : std::string();
    if (domain.empty() || domain.size() > longest_domain) {
        file.problems.emplace_back("an entry has no domain");
        return;
    }
    auto certificate = read_entry(entry);
    if (!certificate) {
        file.problems.push_back(
            fmt::format("the certificate for {} {}", in_quotes(domain), certificate.error().what));
        return;
    }
    certificate->domain = std::move(domain);
    file.certificates.push_back(std::move(*certificate));
}

}  // namespace

void erase_private_keys(std::span<char> json) {
    bool secret_follows = false;
    for (std::size_t at = 0; at < json.size(); ++at) {
        if (json[at] != '"') {
            secret_follows &= is_blank(json[at]);
            continue;
        }
        const std::span<char> inside = inside_string(json, at);
        if (secret_follows) {
            OPENSSL_cleanse(inside.data(), inside.size());
            std::ranges::fill(inside, '-');
        }
        at += inside.size() + 1;
        std::size_t next = at + 1;
        while (next < json.size() && is_blank(json[next]))
            ++next;
        const bool is_name = next < json.size() && json[next] == ':';
        secret_follows = is_name && may_be_secret({inside.data(), inside.size()});
        if (is_name)
            at = next;
    }
}

Result<AcmeFile> parse_acme_file(std::span<char> json) {
    erase_private_keys(json);
    const Json document = Json::parse(json.begin(), json.end(), nullptr, false);
    if (document.is_discarded() || !document.is_object())
        return failure("is not the JSON that Traefik writes",
                       "Name the file that the certificatesResolvers of traefik_config.yml store to.");
    AcmeFile file;
    for (const auto& resolver : document) {
        if (!resolver.is_object())
            continue;
        const auto certificates = resolver.find("Certificates");
        if (certificates != resolver.end() && certificates->is_array())
            for (const Json& entry : *certificates)
                add_entry(entry, file);
    }
    return file;
}

}  // namespace pangolin
