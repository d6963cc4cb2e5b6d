// What a scrape costs on a host with 10,000 peers, and on one with 1,000 sites and 5,000 targets: collection
// (WireGuard's peers, kernel counters, join; with `state=on` also the state file) and text.
//
// The peers are those of a real interface in a network namespace of the benchmark's own: the kernel's
// WireGuard where the host has it, else wireguard-go, whose own work is not in the figures. Every site has
// TCP and UDP counts. CPU time is that of the thread that collects.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "exporter/exposition.h"
#include "loader/base/unique_fd.h"
#include "userspace/collector.h"

namespace pangolin::bench {
namespace {

constexpr int scrapes = 21;

// Each site is a peer.
struct Scale {
    std::uint32_t sites = 0;
    std::uint32_t targets = 0;
    // Totals are written down before each scrape is answered.
    bool with_state = false;
};

// Removed at its end.
class Folder {
  public:
    Folder() : path_(fmt::format("/tmp/pangolin_exporter-bench.{}", ::getpid())) {
        std::filesystem::create_directory(path_);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path_); }

    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

std::uint32_t tunnel_address(std::uint32_t peer) {
    return 0x64590000U + 4 * (peer + 1);
}

WireGuardKey key_of(std::uint32_t peer) {
    WireGuardKey key;
    // Any 32 bytes are a public key to WireGuard; the high bits keep them apart from small-order points.
    for (std::size_t i = 0; i < key.bytes.size(); ++i)
        key.bytes[i] =
            static_cast<std::uint8_t>((peer + 1) * 2654435761U >> (i % 4 * 8)) ^ static_cast<std::uint8_t>(i);
    key.bytes[31] = 0x40;
    return key;
}

class GeneratedSites : public SiteSource {
  public:
    explicit GeneratedSites(const Scale& scale) : scale_(scale) {}
    std::string_view name() const override { return "generated"; }
    Result<SiteDirectory> read() override {
        SiteDirectory directory;
        for (std::uint32_t i = 0; i < scale_.sites; ++i) {
            Site site;
            site.site_id = fmt::format("brave-otter-{:05}", i);
            site.name = fmt::format("Site {}", i);
            site.organisation = "home";
            site.public_key = key_of(i);
            site.tunnel.push_back(IpPrefix::make(IpAddress::v4(tunnel_address(i)), 30));
            site.exit_node = "Exit Node 1";
            site.online = true;
            site.tunnel_address = IpAddress::v4(tunnel_address(i) + 1);
            directory.sites.push_back(std::move(site));
        }
        add_targets(directory);
        return directory;
    }

  private:
    // Every fifth is UDP.
    void add_targets(SiteDirectory& directory) const {
        for (std::uint32_t i = 0; i < scale_.targets; ++i) {
            Resource resource;
            resource.resource_id = fmt::format("quiet-badger-{:05}", i);
            resource.name = fmt::format("Resource {}", i);
            resource.organisation = "home";
            resource.protocol = i % 5 == 0 ? "udp" : i % 5 == 1 ? "tcp" : "http";
            directory.resources.push_back(std::move(resource));
            Target target;
            target.resource = i;
            target.site = i / targets_of_a_site();
            target.dialled = TargetAddress::make(*directory.sites[*target.site].tunnel_address, port_of(i));
            target.health_checked = true;
            target.health = TargetHealth::healthy;
            directory.targets.push_back(std::move(target));
        }
    }
    std::uint32_t targets_of_a_site() const { return (scale_.targets + scale_.sites - 1) / scale_.sites; }
    static std::uint16_t port_of(std::uint32_t target) {
        return static_cast<std::uint16_t>(40000 + target % 20000);
    }

    Scale scale_;
};

void run(const std::string& command) {
    if (std::system(command.c_str()) != 0) {
        fmt::print(stderr,
                   "failed: {} (HINT: Run as root, with wireguard-tools and wireguard-go installed.)\n",
                   command);
        std::exit(1);
    }
}

// Removes the interface (and with it wireguard-go) at its end; the namespace ends with the process.
class Interface {
  public:
    explicit Interface(std::uint32_t peers)
        // Another name for each: wireguard-go removes its socket a moment after its interface.
        : name_(fmt::format("pxb{}n{}", ::getpid(), peers / 1000)) {
        const std::string config = fmt::format("/tmp/{}.{}.conf", name_, ::getpid());
        {
            std::ofstream file(config);
            file << "[Interface]\nPrivateKey = " << private_key() << "\nListenPort = 51820\n";
            for (std::uint32_t i = 0; i < peers; ++i)
                file << "[Peer]\nPublicKey = " << key_of(i).to_string()
                     << "\nAllowedIPs = " << IpAddress::v4(tunnel_address(i)).to_string() << "/30\n";
        }
        run("ip link set lo up");
        run(fmt::format("ip link add {0} type wireguard 2>/dev/null || wireguard-go {0} 2>/dev/null", name_));
        run(fmt::format("wg setconf {} {}", name_, config));
        std::filesystem::remove(config);
        run(fmt::format("ip address add 100.89.0.1/16 dev {0} && ip link set {0} up", name_));
    }
    Interface(const Interface&) = delete;
    Interface& operator=(const Interface&) = delete;
    ~Interface() { run(fmt::format("ip link delete {}", name_)); }

    const std::string& name() const { return name_; }

  private:
    static std::string private_key() {
        WireGuardKey key;
        key.bytes.fill(0x48);
        return key.to_string();
    }

    std::string name_;
};

// One TCP and one UDP packet to each site; they reach the hook and die in WireGuard, which has no endpoints.
void send_to_all(std::uint32_t peers) {
    for (const int protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
        const UniqueFd socket(::socket(AF_INET, SOCK_RAW, protocol));
        const std::vector<char> payload(64);
        for (std::uint32_t i = 0; i < peers; ++i) {
            sockaddr_in to{};
            to.sin_family = AF_INET;
            to.sin_addr.s_addr = htonl(tunnel_address(i) + 1);
            // ENOKEY and the like are WireGuard's answer to a peer without endpoint, after the hook.
            ::sendto(socket.get(), payload.data(), payload.size(), 0, reinterpret_cast<sockaddr*>(&to),
                     sizeof to);
        }
    }
}

double thread_milliseconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

double resident_mib() {
    std::ifstream statm("/proc/self/statm");
    std::size_t total = 0;
    std::size_t resident = 0;
    statm >> total >> resident;
    return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

void measure(const Scale& scale) {
    const Interface interface(scale.sites);
    CollectorOptions options;
    options.netns = fmt::format("pid:{}", ::getpid());
    options.interfaces = {interface.name()};
    options.sites = std::make_unique<GeneratedSites>(scale);
    const Folder folder;
    if (scale.with_state) {
        auto persistence = Persistence::open({.state_dir = folder.path(), .pin_dir = ""});
        if (!persistence) {
            fmt::print(stderr, "{}\n", persistence.error().message());
            std::exit(1);
        }
        options.persistence = std::move(*persistence);
    }
    Collector collector(std::move(options));
    collector.start();
    send_to_all(scale.sites);

    std::vector<double> collections;
    std::vector<double> texts;
    std::size_t bytes = 0;
    for (int i = 0; i < scrapes; ++i) {
        const double begin = thread_milliseconds();
        auto snapshot = collector.collect();
        const double collected = thread_milliseconds();
        Exposition exposition(std::move(snapshot), nullptr, ExpositionFormat::text);
        bytes = 0;
        for (std::string_view block = exposition.next_block(); !block.empty();
             block = exposition.next_block())
            bytes += block.size();
        texts.push_back(thread_milliseconds() - collected);
        collections.push_back(collected - begin);
    }
    fmt::print(
        "bench=collection peers={} targets={} state={} text_mib={:.1f} collection_cpu_ms={:.1f} "
        "text_cpu_ms={:.1f} "
        "sum_cpu_ms={:.1f} resident_mib={:.1f}\n",
        scale.sites, scale.targets, scale.with_state ? "on" : "off",
        static_cast<double>(bytes) / (1024.0 * 1024.0), median(collections), median(texts),
        median(collections) + median(texts), resident_mib());
}

}  // namespace
}  // namespace pangolin::bench

int main() {
    spdlog::set_level(spdlog::level::warn);
    if (::unshare(CLONE_NEWNET) != 0) {
        fmt::print(stderr, "cannot make a network namespace (HINT: Run as root.)\n");
        return 1;
    }
    for (const bool with_state : {false, true}) {
        pangolin::bench::measure({.sites = 10'000, .targets = 0, .with_state = with_state});
        pangolin::bench::measure({.sites = 1'000, .targets = 5'000, .with_state = with_state});
    }
    return 0;
}
