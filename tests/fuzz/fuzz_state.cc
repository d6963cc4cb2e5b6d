// The state file's header and checksum, and what its payload may hold when they are right.
#include <cstddef>
#include <cstdint>

#include "userspace/state/health_state.h"
#include "userspace/state/interface_state.h"
#include "userspace/state/ledger_state.h"
#include "userspace/state/peer_statistics_state.h"
#include "userspace/state/socket_state.h"
#include "userspace/state/state_file.h"
#include "userspace/state/wait_state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace pangolin;
    const std::span<const std::uint8_t> bytes(data, size);
    static_cast<void>(StateFile::parse(bytes));
    Ledger ledger;
    ArchiveReader reader(bytes);
    static_cast<void>(reader.blocks([&](std::uint32_t kind, ArchiveReader& block) {
        if (read_ledger_block(static_cast<StateBlock>(kind), block, ledger))
            return;
        const ArchiveReader whole = block;
        ArchiveReader again = block;
        ArchiveReader once_more = block;
        InterfaceState interface;
        block(interface);
        SocketState sockets;
        again(sockets);
        HealthState health;
        once_more(health);
        ArchiveReader part = whole;
        std::string name;
        bool watched = false;
        WaitState sqlite;
        WaitState postgres;
        part(name, watched, sqlite, postgres);
        ArchiveReader last = whole;
        PeerStatisticsState statistics;
        last(statistics);
        for (const TcpCredit& credit : statistics.tcp)
            static_cast<void>(from_credit(credit));
    }));
    ArchiveWriter writer;
    write_ledger(writer, ledger);
    return 0;
}
