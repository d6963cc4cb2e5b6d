// An independent witness of what passes an interface: counts packets and IP bytes, without eBPF.
//
// It reads every packet of one interface from a memory-mapped packet socket and sorts it by direction,
// protocol, IP version and the group that the remote end belongs to: an address, or an address and a TCP or
// UDP port (later fragments go where the first one went). With --by-local it is the group of the local end.
// On the far side of the tunnel, on an
// interface without offloads, each frame is one packet and the numbers are simply what was there. With
// --virtual-header it can also stand on an interface with offloads: the kernel then says how a super-packet
// will be (or was) cut, and the witness counts the parts. The lab tests compare the exporter with this
// program, and this program with the device's own statistics.
//
//   lab_witness --interface wgs1 --group host=100.89.128.1/32,fd00:89::1/128 [--virtual-header]
//   [--by-local] [--ring-megabytes 32]
//   lab_witness --interface wg0 --group web=100.89.128.4/32#40001 --group rest=100.89.128.0/24
//
// The first group that fits takes the packet. `payload` is what TCP and UDP carried.
//
// Prints "ready" once it counts, one line of JSON for each line that it reads, and a last one at SIGTERM or
// SIGINT.

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Bytes = std::span<const std::uint8_t>;

[[noreturn]] void fail(std::string_view what) {
    std::fprintf(stderr, "lab_witness: %.*s: %s\n", static_cast<int>(what.size()), what.data(),
                 std::strerror(errno));
    std::exit(1);
}

[[noreturn]] void refuse(std::string_view what) {
    std::fprintf(stderr, "lab_witness: %.*s\n", static_cast<int>(what.size()), what.data());
    std::exit(2);
}

std::uint16_t big_endian_16(Bytes bytes, std::size_t offset) {
    return static_cast<std::uint16_t>(bytes[offset] << 8 | bytes[offset + 1]);
}

// ---- what is counted

enum Direction : std::size_t { kIncoming, kOutgoing, kDirections };
enum Protocol : std::size_t { kTcp, kUdp, kIcmp, kOther, kProtocols };
enum Version : std::size_t { kIpv4, kIpv6, kVersions };
constexpr std::array kDirectionNames{"incoming", "outgoing"};
constexpr std::array kProtocolNames{"tcp", "udp", "icmp", "other"};
constexpr std::array kVersionNames{"ipv4", "ipv6"};

struct Count {
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t payload = 0;
};

using Counts = std::array<std::array<std::array<Count, kVersions>, kProtocols>, kDirections>;

struct Prefix {
    std::vector<std::uint8_t> address;  // 4 or 16 bytes
    unsigned length = 0;
    std::uint16_t port = 0;  // 0: any, also of packets without a port

    bool holds(Bytes other, std::uint16_t other_port) const {
        if (port != 0 && port != other_port)
            return false;
        if (other.size() != address.size())
            return false;
        for (unsigned bit = 0; bit < length; bit += 8) {
            const unsigned bits = std::min(8U, length - bit);
            const auto mask = static_cast<std::uint8_t>(0xff << (8 - bits));
            if (((address[bit / 8] ^ other[bit / 8]) & mask) != 0)
                return false;
        }
        return true;
    }
};

struct Group {
    std::string name;
    std::vector<Prefix> prefixes;
    Counts counts{};
};

struct Tally {
    std::vector<Group> groups;  // the last one is "elsewhere": no group's address, or no IP at all
    std::uint64_t malformed = 0;
    std::uint64_t length_mismatches = 0;  // the frame was not as long as its IP header says
    std::uint64_t super_packets = 0;
    std::uint64_t most_segments = 1;
    std::uint64_t ring_drops = 0;
    std::uint64_t ring_frames = 0;
    bool by_local = false;
    // Which group the first fragment went to, by both addresses and the datagram's identification.
    std::map<std::vector<std::uint8_t>, Group*> fragmented{};

    Group& group_of(Bytes address, std::uint16_t port) {
        for (Group& group : groups)
            if (std::ranges::any_of(group.prefixes,
                                    [&](const Prefix& prefix) { return prefix.holds(address, port); }))
                return group;
        return groups.back();
    }
};

// ---- reading one packet

// struct virtio_net_hdr; linux/virtio_net.h itself is not C++ (a member is called class).
struct VirtualHeader {
    std::uint8_t flags;
    std::uint8_t gso_type;  // 0: not a super-packet
    std::uint16_t header_length;
    std::uint16_t gso_size;  // payload of each part
    std::uint16_t checksum_start;
    std::uint16_t checksum_offset;
};
static_assert(sizeof(VirtualHeader) == 10);

struct Packet {
    Version version;
    Protocol protocol;
    Bytes source, destination;
    std::size_t header_length;    // IP header with extension headers
    std::uint64_t stated_length;  // what the IP header says; 0 for jumbo packets, which say nothing
    Bytes datagram{};             // its identification when it is a fragment, else empty
    bool later_fragment = false;
};

Protocol protocol_of(std::uint8_t number) {
    switch (number) {
        case IPPROTO_TCP:
            return kTcp;
        case IPPROTO_UDP:
            return kUdp;
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
            return kIcmp;
        default:
            return kOther;
    }
}

std::optional<Packet> parse_ipv4(Bytes bytes) {
    if (bytes.size() < 20)
        return std::nullopt;
    const std::size_t header_length = std::size_t{4} * (bytes[0] & 0x0fU);
    if (header_length < 20)
        return std::nullopt;
    const unsigned fragment = big_endian_16(bytes, 6) & 0x3fffU;
    return Packet{kIpv4,
                  protocol_of(bytes[9]),
                  bytes.subspan(12, 4),
                  bytes.subspan(16, 4),
                  header_length,
                  big_endian_16(bytes, 2),
                  fragment != 0 ? bytes.subspan(4, 2) : Bytes{},
                  (fragment & 0x1fffU) != 0};
}

// Follows the extension headers to the protocol. A fragment that is not the first carries no further headers,
// so what its own fragment header names is its protocol.
std::optional<Packet> parse_ipv6(Bytes bytes) {
    if (bytes.size() < 40)
        return std::nullopt;
    const std::uint16_t payload = big_endian_16(bytes, 4);
    std::uint8_t next = bytes[6];
    std::size_t offset = 40;
    bool more = true;
    bool later = false;
    Bytes datagram{};
    while (more && offset + 8 <= bytes.size()) {
        switch (next) {
            case IPPROTO_HOPOPTS:
            case IPPROTO_ROUTING:
            case IPPROTO_DSTOPTS:
                next = bytes[offset];
                offset += std::size_t{8} * (bytes[offset + 1] + 1U);
                break;
            case IPPROTO_AH:
                next = bytes[offset];
                offset += std::size_t{4} * (bytes[offset + 1] + 2U);
                break;
            case IPPROTO_FRAGMENT:
                more = (big_endian_16(bytes, offset + 2) & 0xfff8U) == 0;
                later = !more;
                datagram = bytes.subspan(offset + 4, 4);
                next = bytes[offset];
                offset += 8;
                break;
            default:
                more = false;
        }
    }
    const std::uint64_t stated = payload == 0 ? 0 : payload + 40U;
    return Packet{
        kIpv6, protocol_of(next), bytes.subspan(8, 16), bytes.subspan(24, 16), offset, stated, datagram,
        later};
}

std::optional<Packet> parse(Bytes bytes) {
    if (bytes.empty())
        return std::nullopt;
    if (bytes[0] >> 4 == 4)
        return parse_ipv4(bytes);
    if (bytes[0] >> 4 == 6)
        return parse_ipv6(bytes);
    return std::nullopt;
}

// IP header up to the payload of TCP or UDP; only the IP header's where there is no such header.
std::size_t headers_of(const Packet& packet, Bytes bytes) {
    if (packet.later_fragment || packet.protocol == kIcmp || packet.protocol == kOther)
        return packet.header_length;
    if (packet.protocol == kTcp && packet.header_length + 20 <= bytes.size())
        return packet.header_length + std::size_t{4} * (bytes[packet.header_length + 12] >> 4);
    return packet.header_length + 8;
}

// How a super-packet of `length` bytes counts on the wire: each part repeats the headers.
Count on_the_wire(const Packet& packet, Bytes bytes, std::uint64_t length, const VirtualHeader* cut) {
    const std::size_t headers = headers_of(packet, bytes);
    const std::uint64_t payload = length > headers ? length - headers : 0;
    const bool whole = cut == nullptr || cut->gso_type == 0 || cut->gso_size == 0;
    if (whole || payload == 0)
        return {1, length, payload};
    const std::uint64_t segments = (payload + cut->gso_size - 1) / cut->gso_size;
    return {segments, payload + segments * headers, payload};
}

Group& group_of(Tally& tally, const Packet& packet, Bytes bytes, bool local_is_source) {
    const bool by_source = tally.by_local == local_is_source;
    std::uint16_t port = 0;
    if ((packet.protocol == kTcp || packet.protocol == kUdp) && !packet.later_fragment &&
        packet.header_length + 4 <= bytes.size())
        port = big_endian_16(bytes, packet.header_length + (by_source ? 0 : 2));
    const Bytes address = by_source ? packet.source : packet.destination;
    if (packet.datagram.empty())
        return tally.group_of(address, port);
    std::vector<std::uint8_t> name(packet.source.begin(), packet.source.end());
    name.insert(name.end(), packet.destination.begin(), packet.destination.end());
    name.insert(name.end(), packet.datagram.begin(), packet.datagram.end());
    const auto known = tally.fragmented.find(name);
    if (packet.later_fragment)
        return known != tally.fragmented.end() ? *known->second : tally.group_of(address, 0);
    if (tally.fragmented.size() > 100'000)
        tally.fragmented.clear();
    return *(tally.fragmented[name] = &tally.group_of(address, port));
}

void count(Tally& tally, Direction direction, Bytes bytes, std::uint64_t length, const VirtualHeader* cut) {
    const std::optional<Packet> packet = parse(bytes);
    if (!packet) {
        ++tally.malformed;
        return;
    }
    if (packet->stated_length != 0 && packet->stated_length != length)
        ++tally.length_mismatches;
    const Count wire = on_the_wire(*packet, bytes, length, cut);
    if (wire.packets > 1)
        ++tally.super_packets;
    tally.most_segments = std::max(tally.most_segments, wire.packets);
    Group& group = group_of(tally, *packet, bytes, direction == kOutgoing);
    Count& sum = group.counts[direction][packet->protocol][packet->version];
    sum.packets += wire.packets;
    sum.bytes += wire.bytes;
    sum.payload += wire.payload;
}

// ---- the ring

// A packet socket with a memory-mapped receive ring: the kernel fills blocks, we read them in order and hand
// them back.
class Ring {
  public:
    Ring(const std::string& interface, unsigned megabytes, bool virtual_header)
        : virtual_header_(virtual_header) {
        descriptor_ =
            socket(AF_PACKET, SOCK_RAW, 0);  // protocol 0: nothing arrives before the ring is there and bound
        if (descriptor_ < 0)
            fail("packet socket");
        set_option(PACKET_VERSION, TPACKET_V3, "TPACKET_V3");
        if (virtual_header)
            set_option(PACKET_VNET_HDR, 1, "virtual header");
        map(megabytes);
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
        if (address.sll_ifindex == 0)
            fail("interface " + interface);
        if (bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            fail("bind");
    }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() {
        munmap(memory_, static_cast<std::size_t>(blocks_) * kBlockSize);
        close(descriptor_);
    }

    int descriptor() const { return descriptor_; }

    // Reads all blocks that the kernel has finished; true when there was one.
    bool drain(Tally& tally) {
        bool any = false;
        while (true) {
            auto* block =
                reinterpret_cast<tpacket_block_desc*>(memory_ + static_cast<std::size_t>(next_) * kBlockSize);
            std::atomic_ref<std::uint32_t> status(block->hdr.bh1.block_status);
            if ((status.load(std::memory_order_acquire) & TP_STATUS_USER) == 0)
                return any;
            read_block(*block, tally);
            status.store(TP_STATUS_KERNEL, std::memory_order_release);
            next_ = (next_ + 1) % blocks_;
            any = true;
        }
    }

    void read_statistics(Tally& tally) const {
        tpacket_stats_v3 statistics{};  // the kernel starts again from zero after each reading
        socklen_t size = sizeof statistics;
        if (getsockopt(descriptor_, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) != 0)
            fail("PACKET_STATISTICS");
        tally.ring_drops += statistics.tp_drops;
        tally.ring_frames += statistics.tp_packets;
    }

  private:
    static constexpr unsigned kBlockSize = 1U << 20;
    static constexpr unsigned kFlushMilliseconds =
        20;  // a block that is not full is handed over after this long

    void set_option(int option, int value, std::string_view what) const {
        if (setsockopt(descriptor_, SOL_PACKET, option, &value, sizeof value) != 0)
            fail(what);
    }

    void map(unsigned megabytes) {
        blocks_ = megabytes;
        tpacket_req3 request{};
        request.tp_block_size = kBlockSize;
        request.tp_block_nr = blocks_;
        request.tp_frame_size = 2048;
        request.tp_frame_nr = blocks_ * (kBlockSize / request.tp_frame_size);
        request.tp_retire_blk_tov = kFlushMilliseconds;
        if (setsockopt(descriptor_, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
            fail("ring");
        void* memory = mmap(nullptr, static_cast<std::size_t>(blocks_) * kBlockSize, PROT_READ | PROT_WRITE,
                            MAP_SHARED, descriptor_, 0);
        if (memory == MAP_FAILED)
            fail("map the ring");
        memory_ = static_cast<std::uint8_t*>(memory);
    }

    void read_block(tpacket_block_desc& block, Tally& tally) const {
        auto* at = reinterpret_cast<std::uint8_t*>(&block) + block.hdr.bh1.offset_to_first_pkt;
        for (std::uint32_t left = block.hdr.bh1.num_pkts; left > 0; --left) {
            const auto* frame = reinterpret_cast<const tpacket3_hdr*>(at);
            read_frame(*frame, tally);
            at += frame->tp_next_offset;
        }
    }

    void read_frame(const tpacket3_hdr& frame, Tally& tally) const {
        const auto* start = reinterpret_cast<const std::uint8_t*>(&frame);
        const auto* link = reinterpret_cast<const sockaddr_ll*>(start + TPACKET_ALIGN(sizeof frame));
        const auto* cut =
            virtual_header_
                ? reinterpret_cast<const VirtualHeader*>(start + frame.tp_mac - sizeof(VirtualHeader))
                : nullptr;
        const Direction direction = link->sll_pkttype == PACKET_OUTGOING ? kOutgoing : kIncoming;
        count(tally, direction, Bytes(start + frame.tp_mac, frame.tp_snaplen), frame.tp_len, cut);
    }

    bool virtual_header_;
    int descriptor_ = -1;
    unsigned blocks_ = 0;
    unsigned next_ = 0;
    std::uint8_t* memory_ = nullptr;
};

// ---- the report

void print_group(const Group& group) {
    std::printf("\"%s\":{", group.name.c_str());
    for (std::size_t direction = 0; direction < kDirections; ++direction) {
        std::printf("%s\"%s\":{", direction == 0 ? "" : ",", kDirectionNames[direction]);
        for (std::size_t protocol = 0; protocol < kProtocols; ++protocol) {
            std::printf("%s\"%s\":{", protocol == 0 ? "" : ",", kProtocolNames[protocol]);
            for (std::size_t version = 0; version < kVersions; ++version) {
                const Count& sum = group.counts[direction][protocol][version];
                std::printf(
                    "%s\"%s\":{\"packets\":%llu,\"bytes\":%llu,\"payload\":%llu}", version == 0 ? "" : ",",
                    kVersionNames[version], static_cast<unsigned long long>(sum.packets),
                    static_cast<unsigned long long>(sum.bytes), static_cast<unsigned long long>(sum.payload));
            }
            std::printf("}");
        }
        std::printf("}");
    }
    std::printf("}");
}

void report(Ring& ring, Tally& tally, const std::string& interface) {
    // The newest packets sit in a block that the kernel has yet to hand over: wait for some quiet, but not
    // for ever.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    pollfd readable{ring.descriptor(), POLLIN, 0};
    while (std::chrono::steady_clock::now() < deadline && poll(&readable, 1, 100) > 0)
        ring.drain(tally);
    ring.read_statistics(tally);
    std::printf(
        "{\"interface\":\"%s\",\"kernel_drops\":%llu,\"kernel_frames\":%llu,\"malformed\":%llu,\"length_"
        "mismatches\":%llu,"
        "\"super_packets\":%llu,\"most_segments\":%llu,\"groups\":{",
        interface.c_str(), static_cast<unsigned long long>(tally.ring_drops),
        static_cast<unsigned long long>(tally.ring_frames), static_cast<unsigned long long>(tally.malformed),
        static_cast<unsigned long long>(tally.length_mismatches),
        static_cast<unsigned long long>(tally.super_packets),
        static_cast<unsigned long long>(tally.most_segments));
    for (bool first = true; const Group& group : tally.groups) {
        if (!first)
            std::printf(",");
        first = false;
        print_group(group);
    }
    std::printf("}}\n");
    std::fflush(stdout);
}

// ---- the command line

unsigned number(std::string_view text, unsigned most) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value > most)
        refuse("not a number in range: " + std::string(text));
    return value;
}

Prefix parse_prefix(std::string_view text) {
    const std::size_t hash = text.find('#');
    const unsigned port = hash == std::string_view::npos ? 0 : number(text.substr(hash + 1), 65535);
    text = text.substr(0, hash);
    const std::size_t slash = text.find('/');
    const std::string address(text.substr(0, slash));
    const bool ipv6 = address.contains(':');
    Prefix prefix{std::vector<std::uint8_t>(ipv6 ? 16 : 4), ipv6 ? 128U : 32U,
                  static_cast<std::uint16_t>(port)};
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, address.c_str(), prefix.address.data()) != 1)
        refuse("not an address: " + address);
    if (slash != std::string_view::npos)
        prefix.length = number(text.substr(slash + 1), prefix.length);
    return prefix;
}

Group parse_group(std::string_view text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos)
        refuse("a group is NAME=PREFIX[#PORT],...");
    Group group{std::string(text.substr(0, equals)), {}};
    for (std::string_view rest = text.substr(equals + 1); !rest.empty();) {
        const std::size_t comma = std::min(rest.find(','), rest.size());
        group.prefixes.push_back(parse_prefix(rest.substr(0, comma)));
        rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    return group;
}

struct Options {
    std::string interface;
    std::vector<Group> groups;
    bool virtual_header = false;
    bool by_local = false;
    unsigned ring_megabytes = 32;
};

Options parse_options(int argc, char** argv) {
    Options options;
    for (int at = 1; at < argc; ++at) {
        const std::string_view name = argv[at];
        if (name == "--virtual-header") {
            options.virtual_header = true;
            continue;
        }
        if (name == "--by-local") {
            options.by_local = true;
            continue;
        }
        if (at + 1 == argc)
            refuse("option without a value, or unknown: " + std::string(name));
        const std::string_view value = argv[++at];
        if (name == "--interface")
            options.interface = value;
        else if (name == "--group")
            options.groups.push_back(parse_group(value));
        else if (name == "--ring-megabytes")
            options.ring_megabytes = std::max(1U, number(value, 4096));
        else
            refuse("unknown option: " + std::string(name));
    }
    if (options.interface.empty())
        refuse("--interface is required");
    options.groups.push_back(Group{"elsewhere", {}});
    return options;
}

int termination_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int descriptor = signalfd(-1, &signals, SFD_CLOEXEC);
    if (descriptor < 0)
        fail("signalfd");
    return descriptor;
}

}  // namespace

int main(int argc, char** argv) {
    Options options = parse_options(argc, argv);
    const int signals = termination_signals();
    Ring ring(options.interface, options.ring_megabytes, options.virtual_header);
    Tally tally{.groups = std::move(options.groups), .by_local = options.by_local};
    std::puts("ready");
    std::fflush(stdout);

    std::array<pollfd, 3> sources{
        pollfd{ring.descriptor(), POLLIN, 0}, {signals, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (true) {
        if (poll(sources.data(), sources.size(), -1) < 0 && errno != EINTR)
            fail("poll");
        if ((sources[0].revents & POLLERR) != 0)
            refuse("interface " + options.interface + " went down or away");
        ring.drain(tally);
        if ((sources[1].revents & POLLIN) != 0)
            break;
        if ((sources[2].revents & (POLLIN | POLLHUP)) == 0)
            continue;
        std::array<char, 256> line;
        const ssize_t got = read(STDIN_FILENO, line.data(), line.size());
        if (got > 0)
            for (ssize_t at = 0; at < got; ++at)
                if (line[static_cast<std::size_t>(at)] == '\n')
                    report(ring, tally, options.interface);
        if (got <= 0)
            sources[2].fd = -1;  // nobody asks any more; only the signal is left
    }
    report(ring, tally, options.interface);
    return 0;
}
