#include "userspace/certificates/certificate_book.h"

#include <algorithm>

namespace pangolin {

CertificateBook::CertificateBook(std::vector<Certificate> certificates)
    : certificates_(std::move(certificates)) {
    for (const Certificate& certificate : certificates_) {
        by_domain_.push_back(&certificate);
        for (const std::string& name : certificate.names)
            names_.emplace_back(name, &certificate);
    }
    const auto last_first = [](const Certificate* a, const Certificate* b) {
        return a->not_after > b->not_after;
    };
    std::ranges::sort(by_domain_, [&](const Certificate* a, const Certificate* b) {
        return a->domain != b->domain ? a->domain < b->domain : last_first(a, b);
    });
    by_domain_.erase(std::ranges::unique(by_domain_, {}, &Certificate::domain).begin(), by_domain_.end());
    std::ranges::sort(names_, [&](const auto& a, const auto& b) {
        return a.first != b.first ? a.first < b.first : last_first(a.second, b.second);
    });
}

const Certificate* CertificateBook::find_name(std::string_view name) const {
    const auto found =
        std::ranges::lower_bound(names_, name, {}, &std::pair<std::string_view, const Certificate*>::first);
    return found != names_.end() && found->first == name ? found->second : nullptr;
}

const Certificate* CertificateBook::find(std::string_view host) const {
    const std::string name = normal_host_name(host);
    if (const Certificate* const exact = find_name(name))
        return exact;
    const std::size_t dot = name.find('.');
    // No label, or a pattern itself.
    if (dot == 0 || dot == std::string::npos || name.starts_with('*'))
        return nullptr;
    return find_name("*" + name.substr(dot));
}

}  // namespace pangolin
