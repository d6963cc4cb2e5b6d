// All known certificates, and which of them a host name is served with.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "userspace/certificates/certificate.h"

namespace pangolin {

// Immutable. Where several certificates are for one name, the one that expires last counts.
class CertificateBook {
  public:
    explicit CertificateBook(std::vector<Certificate> certificates);
    CertificateBook(const CertificateBook&) = delete;
    CertificateBook& operator=(const CertificateBook&) = delete;

    // The certificate for `host`: one with that very name, else one whose wildcard covers it. A wildcard is a
    // whole leftmost label and stands for exactly one (RFC 6125 section 6.4.3, RFC 9525 section 6.3), so
    // that a `host` "*.example.com", all names below example.com, is covered by the same wildcard only. Null
    // when there is none.
    const Certificate* find(std::string_view host) const;

    // One for each `domain`, in its order.
    const std::vector<const Certificate*>& by_domain() const { return by_domain_; }
    std::size_t size() const { return certificates_.size(); }

  private:
    const Certificate* find_name(std::string_view name) const;

    std::vector<Certificate> certificates_;
    std::vector<const Certificate*> by_domain_;
    // Sorted; views into certificates_.
    std::vector<std::pair<std::string_view, const Certificate*>> names_;
};

}  // namespace pangolin
