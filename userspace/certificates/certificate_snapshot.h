// What a snapshot says of certificates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "userspace/certificates/certificate_book.h"

namespace pangolin {

enum class CertificateEvent : std::uint8_t { issued, renewed, removed, failed };
inline constexpr std::size_t certificate_events = 4;

// By domain and CertificateEvent, since the exporter's start.
using CertificateEventCounts = std::map<std::string, std::array<std::uint64_t, certificate_events>>;

// Of the domains beyond this many, events are counted as those of the domain "other".
inline constexpr std::size_t most_certificate_domains = 10'000;
inline constexpr const char* other_domains = "other";

struct CertificateSnapshot {
    // Both null while no source can be read.
    std::shared_ptr<const CertificateBook> book;
    std::shared_ptr<const CertificateEventCounts> events;
    // Certificates that are not in the book because it has as many as it may.
    std::uint64_t left_out = 0;
};

}  // namespace pangolin
