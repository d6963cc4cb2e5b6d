// What a client accepts (RFC 9110, section 12.5).
#pragma once

#include <string_view>

#include "exporter/text_writer.h"

namespace pangolin {

// The format that the header Accept likes best. Plain text for a client that names neither, as all Prometheus
// exporters do: an answer that it did not ask for helps more than a 406.
ExpositionFormat negotiate_format(std::string_view accept);

// Whether the header Accept-Encoding allows gzip.
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace pangolin
