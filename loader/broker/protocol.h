// What the exporter and its process broker say to each other: one packet asks, one packet answers.
//
// Both ends run on one machine, from one build or from two of an upgrade: numbers are in the machine's byte
// order, sizes are fixed, and `protocol_version` changes with any of them.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pangolin::broker {

constexpr std::uint32_t protocol_magic = 0x70677062;  // "pgpb"
constexpr std::uint16_t protocol_version = 1;

// All that can be asked for. What would show a process's memory, environment or open files is not among it.
enum class Question : std::uint16_t {
    // A descriptor (O_PATH) of the broker's own /proc: all processes, and of each what every user may read.
    // `pid` is 0.
    process_folder = 1,
    // A descriptor (O_RDONLY) of the process's network namespace.
    network_namespace = 2,
    // A descriptor (O_PATH) of the process's root folder.
    root_folder = 3,
    // The path of its working directory, as text.
    working_directory = 4,
    // The namespaces of all processes from number `pid` on, in order, as NamespaceEntry: those that fit.
    network_namespaces = 5,
    mount_namespaces = 6,
};

struct Request {
    std::uint32_t magic = protocol_magic;
    std::uint16_t version = protocol_version;
    std::uint16_t question = 0;
    std::int32_t pid = 0;
};

// What follows it is `entries` times a NamespaceEntry, or the text; a descriptor comes beside it
// (SCM_RIGHTS).
struct Answer {
    std::uint32_t magic = protocol_magic;
    std::uint16_t version = protocol_version;
    // As in the request.
    std::uint16_t question = 0;
    std::int32_t pid = 0;
    // 0, or the errno with which the question could not be answered. EPROTO: not a question of this version.
    std::int32_t error = 0;
    // Of a list.
    std::uint32_t entries = 0;
    // There are more processes behind the last of the list.
    std::uint32_t more = 0;
};

struct NamespaceEntry {
    std::int32_t pid = 0;
    // 0, or the errno with which its namespace could not be looked at.
    std::int32_t error = 0;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};

// A list in one packet stays well below the 208 KiB that a socket takes by default (net.core.wmem_default).
constexpr std::size_t most_entries = 2048;
constexpr std::size_t largest_text = PATH_MAX;
constexpr std::size_t largest_payload = most_entries * sizeof(NamespaceEntry);

static_assert(sizeof(Request) == 12 && std::is_trivially_copyable_v<Request>);
static_assert(sizeof(Answer) == 24 && std::is_trivially_copyable_v<Answer>);
static_assert(sizeof(NamespaceEntry) == 24 && std::is_trivially_copyable_v<NamespaceEntry>);
static_assert(largest_text <= largest_payload);

}  // namespace pangolin::broker
