// The page at /: what the exporter sees, for people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "userspace/snapshot.h"

namespace pangolin {

struct StatusPage {
    // Null when there is none yet.
    const Snapshot* snapshot = nullptr;
    // Why the exporter is not ready.
    std::vector<std::string> problems;
    std::string_view telemetry_path = "/metrics";
};

// One HTML document that needs nothing else (no script, no image, no font). All text from outside is escaped.
std::string render(const StatusPage& page);

// `text` as HTML shows it, in content and in quoted attributes; malformed bytes become U+FFFD.
std::string html_escaped(std::string_view text);

}  // namespace pangolin
