// What this host offers to the exporter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

enum class FindingLevel : std::uint8_t {
    ok,
    // Works without it, with less.
    missing,
    // Nothing can be counted.
    fatal,
};

struct Finding {
    FindingLevel level = FindingLevel::ok;
    // "kernel", "privileges", "bpf", "tcx", "btf", ...
    std::string subject;
    // What was found, with a hint where something is missing.
    std::string detail;
};

// Looks at kernel, privileges and BPF features as the calling process has them, and loads the programs by way
// of trial. Attaches nothing; what needs an attachment (tcx) is told by the kernel's version.
std::vector<Finding> inspect_host();

// The first fatal finding as an error: for a start that cannot succeed.
Result<void> require_host();

}  // namespace pangolin
