#include "loader/preflight.h"

#include <linux/capability.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string>

#include "loader/cgroup.h"
#include "loader/http_program.h"
#include "loader/module_probe.h"
#include "loader/process_access.h"
#include "loader/traffic_program.h"

namespace pangolin {
namespace {

struct KernelVersion {
    unsigned major = 0;
    unsigned minor = 0;
    auto operator<=>(const KernelVersion&) const = default;
};

// Bounded loops, batched and mapped arrays and bpf2bpf calls as traffic.bpf.c uses them.
constexpr KernelVersion oldest_kernel{5, 10};
// bpf_mprog and tcx came with 6.6 (commit e420bed02507).
constexpr KernelVersion first_tcx_kernel{6, 6};

KernelVersion parse_version(std::string_view release) {
    KernelVersion version;
    const char* const begin = release.data();
    const char* const end = begin + release.size();
    const auto major = std::from_chars(begin, end, version.major);
    if (major.ptr != end && *major.ptr == '.')
        std::from_chars(major.ptr + 1, end, version.minor);
    return version;
}

std::uint64_t effective_capabilities() {
    std::ifstream status("/proc/self/status");
    std::string line;
    constexpr std::string_view key = "CapEff:\t";
    while (std::getline(status, line)) {
        if (!line.starts_with(key))
            continue;
        std::uint64_t capabilities = 0;
        std::from_chars(line.data() + key.size(), line.data() + line.size(), capabilities, 16);
        return capabilities;
    }
    return 0;
}

Finding inspect_kernel(const utsname& system) {
    const bool supported = parse_version(system.release) >= oldest_kernel;
    return {
        supported ? FindingLevel::ok : FindingLevel::fatal, "kernel",
        Error{std::string("Linux ") + system.release, supported ? "" : "Linux 5.10 or newer is needed.", 0}
            .message()};
}

struct Capability {
    int number;
    const char* name;
    const char* reason;
    // What its absence means.
    FindingLevel absent;
    // The capability that includes it (bpf_capable() and perfmon_capable() in include/linux/capability.h).
    int included_in;
};

constexpr std::array needed_capabilities{
    Capability{CAP_BPF, "CAP_BPF", "load programs", FindingLevel::fatal, CAP_SYS_ADMIN},
    Capability{CAP_PERFMON, "CAP_PERFMON", "load tracing programs", FindingLevel::fatal, CAP_SYS_ADMIN},
    Capability{CAP_NET_ADMIN, "CAP_NET_ADMIN", "attach to interfaces and read WireGuard's peers",
               FindingLevel::fatal, CAP_NET_ADMIN},
    Capability{CAP_SYS_ADMIN, "CAP_SYS_ADMIN",
               "enter the namespaces of containers and read the types of modules", FindingLevel::missing,
               CAP_SYS_ADMIN},
    Capability{CAP_SYSLOG, "CAP_SYSLOG", "tell WireGuard's own drops from others", FindingLevel::missing,
               CAP_SYSLOG},
};

Finding inspect_privileges() {
    const std::uint64_t held = effective_capabilities();
    const auto holds = [&](int capability) { return (held >> capability & 1) != 0; };
    std::string missing;
    FindingLevel level = FindingLevel::ok;
    for (const Capability& needed : needed_capabilities) {
        if (holds(needed.number) || holds(needed.included_in))
            continue;
        missing += (missing.empty() ? "" : ", ") + std::string(needed.name) + " (to " + needed.reason + ")";
        level = std::max(level, needed.absent);
    }
    if (missing.empty())
        return {FindingLevel::ok, "privileges", "all capabilities that are needed"};
    return {level, "privileges",
            Error{"missing " + missing, "Run as root, or grant them as the shipped systemd unit does.", 0}
                .message()};
}

Finding inspect_processes() {
    if (const auto hidden = processes_are_hidden())
        return {FindingLevel::missing, "processes", hidden->message()};
    ProcessBroker* const broker = process_broker();
    if (broker == nullptr)
        return {FindingLevel::ok, "processes", "looked into by the exporter itself"};
    if (const auto folder = broker->process_folder(); !folder)
        return {FindingLevel::missing, "processes", folder.error().message()};
    return {FindingLevel::ok, "processes", "looked into through the broker at " + broker->socket()};
}

Finding inspect_programs() {
    const auto program = TrafficProgram::load({});
    if (program)
        return {FindingLevel::ok, "bpf", "the traffic programs load"};
    return {FindingLevel::fatal, "bpf", program.error().message()};
}

Finding inspect_tcx(const utsname& system) {
    if (parse_version(system.release) >= first_tcx_kernel)
        return {FindingLevel::ok, "tcx", "available"};
    return {FindingLevel::missing, "tcx",
            "needs Linux 6.6; clsact is used in its place, with the same counts"};
}

Finding inspect_btf() {
    if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0)
        return {FindingLevel::ok, "btf", "/sys/kernel/btf/vmlinux"};
    return {
        FindingLevel::missing, "btf",
        "no /sys/kernel/btf/vmlinux: no TCP statistics, drops or handshakes from inside the module; traffic "
        "is counted without it"};
}

Finding inspect_handshakes() {
    const auto supported = ModuleProbe::supported();
    if (supported)
        return {FindingLevel::ok, "handshakes", "observed inside the kernel's WireGuard module"};
    // Its hint is for those who asked for the module.
    return {FindingLevel::missing, "handshakes",
            supported.error().what +
                "; they are observed by their messages on the network, which tells peers by their endpoints"};
}

Finding inspect_cgroup() {
    const auto root = find_cgroup_root();
    if (root && is_whole_cgroup_hierarchy(*root))
        return {FindingLevel::ok, "cgroup", *root};
    if (root)
        return {
            FindingLevel::missing, "cgroup",
            Error{
                *root +
                    " is not the host's root: HTTP and refused connections of other containers are not seen",
                "Mount the host's /sys/fs/cgroup there.", 0}
                .message()};
    return {FindingLevel::missing, "cgroup",
            root.error().message() + ": connections to targets that have no route are not counted"};
}

Finding inspect_http() {
    const auto loaded = HttpProgram::probe();
    if (loaded)
        return {FindingLevel::ok, "http", "the HTTP programs load"};
    const std::string meaning = "; requests to targets and to Pangolin's API are not counted";
    return {FindingLevel::missing, "http",
            Error{loaded.error().what + meaning, loaded.error().hint, 0}.message()};
}

}  // namespace

std::vector<Finding> inspect_host() {
    utsname system{};
    ::uname(&system);
    std::vector<Finding> findings{inspect_kernel(system), inspect_privileges()};
    // Without privileges a trial load only repeats that finding.
    if (findings.back().level != FindingLevel::fatal)
        findings.push_back(inspect_programs());
    findings.push_back(inspect_processes());
    findings.push_back(inspect_tcx(system));
    findings.push_back(inspect_btf());
    findings.push_back(inspect_cgroup());
    if (findings[1].level != FindingLevel::fatal) {
        findings.push_back(inspect_http());
        findings.push_back(inspect_handshakes());
    }
    return findings;
}

Result<void> require_host() {
    utsname system{};
    ::uname(&system);
    for (const Finding& finding : {inspect_kernel(system), inspect_privileges()}) {
        if (finding.level == FindingLevel::fatal)
            return failure(finding.subject + ": " + finding.detail);
    }
    return {};
}

}  // namespace pangolin
