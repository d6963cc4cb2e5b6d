// What HTTP comes to, as it is kept.
#pragma once

#include <concepts>

#include "userspace/http_account.h"
#include "userspace/state/archive.h"

namespace pangolin {

template <class Archive>
void fields(Archive& archive, Latency& latency) {
    // A reader changes both.
    bool present = !latency.empty();  // NOLINT(misc-const-correctness)
    // NOLINTNEXTLINE(misc-const-correctness)
    latency_histogram histogram = present ? latency.histogram() : latency_histogram{};
    archive(present);
    if (!present)
        return;
    archive(histogram);
    if constexpr (std::same_as<Archive, ArchiveReader>)
        latency.set(histogram);
}

template <class Archive>
void fields(Archive& archive, HttpExchanges& http) {
    archive(http.requests, http.durations, http.aborted);
}

template <class Archive>
void fields(Archive& archive, HttpResponseSizes& sizes) {
    archive(sizes.bucket, sizes.sum);
}

}  // namespace pangolin
