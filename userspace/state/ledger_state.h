// The ledger in the state file.
#pragma once

#include <cstdint>

#include "userspace/ledger.h"
#include "userspace/state/archive.h"

namespace pangolin {

// Kinds of blocks of the state file; numbers stay.
enum class StateBlock : std::uint32_t {
    site = 1,
    client = 2,
    resource = 3,
    target = 4,
    backend = 5,
    tunnel_readings = 6,
    interface = 7,
    // With its name (SnapshotPart::kept_as()) before its own content.
    part = 8,
    // The kernel's name of its boot: WireGuard's counters begin anew with the next one.
    boot = 9,
    sockets = 10,
    health = 11,
    // The root of the pins that go with the state.
    pin_root = 12,
    peer_statistics = 13,
    // What could not be counted, of interfaces and maps that are gone.
    ended_losses = 14,
};

// All totals, and what decides whether a site has come back. Readings of peers that are watched are theirs,
// and come with their interface.
void write_ledger(ArchiveWriter& writer, const Ledger& ledger);

// Reads a block of write_ledger() into an empty ledger; false for a block of another kind.
bool read_ledger_block(StateBlock kind, ArchiveReader& reader, Ledger& ledger);

}  // namespace pangolin
