#include "loader/http_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <map>
#include <set>
#include <string_view>

#include "http.skel.h"
#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "loader/cgroup.h"
#include "loader/pinned_maps.h"

namespace pangolin {
namespace {

// Methods and statuses that a target has room for on average, and at least.
constexpr std::uint64_t statuses_per_target = 16;
constexpr std::uint64_t durations_per_target = 4;
constexpr std::uint64_t least_elements = 4096;
constexpr std::uint64_t most_elements = 1U << 22;

// Of Pangolin's own connections there are never that many.
constexpr std::uint32_t max_service_connections = 16384;

int publish(void* handler, void* data, std::size_t size) {
    const auto* const event = static_cast<const http_event*>(data);
    static constexpr std::array<std::size_t, 3> sizes{sizeof(http_exchange), sizeof(http_frame),
                                                      sizeof(http_closed)};
    if (size >= sizeof *event && event->type < sizes.size() && size >= sizes[event->type])
        (*static_cast<HttpEventHandler*>(handler))(*event);
    return 0;
}

std::uint32_t elements(std::uint32_t targets, std::uint64_t each) {
    return static_cast<std::uint32_t>(std::clamp(targets * each, least_elements, most_elements));
}

void configure(http_bpf& skeleton, const HttpProgramOptions& options) {
    const auto& maps = skeleton.maps;
    bpf_map__set_max_entries(maps.http_statuses, elements(options.max_targets, statuses_per_target));
    bpf_map__set_max_entries(maps.http_durations, elements(options.max_targets, durations_per_target));
    bpf_map__set_max_entries(maps.http_targets, std::max(options.max_targets, 1U));
    bpf_map__set_max_entries(maps.http_hosts, std::max(options.max_targets, 1U));
    bpf_map__set_max_entries(maps.http_connections, std::max(options.max_connections, 1U));
    bpf_map__set_max_entries(maps.http_service_connections,
                             std::clamp(options.max_connections, 1U, max_service_connections));
    bpf_map__set_max_entries(maps.http_events, options.event_bytes);
}

Result<void> load_programs(http_bpf& skeleton) {
    const int error = http_bpf__load(&skeleton);
    if (error == -EACCES || error == -E2BIG || error == -EINVAL)
        return failure(
            "this kernel's verifier does not accept the HTTP BPF programs",
            "Debian's kernels 5.10, 6.1 and 6.12 do. Please report this one with the verifier's words, "
            "which --log.level=debug shows.");
    if (error != 0)
        return bpf_failure(-error, "cannot load the HTTP BPF programs");
    return {};
}

std::uint64_t hash_of(std::string_view host) {
    std::uint64_t hash = HTTP_HOST_BASIS;
    for (const char c : host)
        hash = http_hash_host(hash, static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
    return hash;
}

// A port's bit is set or cleared as a whole: other ports never are without theirs.
void set_ports(__u64 (&words)[65536 / 64], const std::vector<std::uint16_t>& ports) {
    std::array<__u64, 65536 / 64> wanted{};
    for (const std::uint16_t port : ports)
        wanted[port / 64] |= __u64{1} << port % 64;
    for (std::size_t i = 0; i < wanted.size(); ++i)
        __atomic_store_n(&words[i], wanted[i], __ATOMIC_RELAXED);
}

}  // namespace

void HttpProgram::RingDeleter::operator()(ring_buffer* ring) const {
    ring_buffer__free(ring);
}

HttpProgram::HttpProgram(HttpProgram&&) noexcept = default;
HttpProgram& HttpProgram::operator=(HttpProgram&&) noexcept = default;
HttpProgram::~HttpProgram() = default;

Result<void> HttpProgram::probe() {
    collect_libbpf_messages();
    const BpfSkeleton<http_bpf> skeleton(http_bpf__open());
    if (!skeleton)
        return bpf_failure(errno, "cannot open the HTTP BPF object");
    HttpProgramOptions small;
    small.max_targets = 1;
    small.max_connections = 1;
    configure(*skeleton, small);
    return load_programs(*skeleton);
}

Result<HttpProgram> HttpProgram::load(const HttpProgramOptions& options, HttpEventHandler handler) {
    collect_libbpf_messages();
    HttpProgram program;
    program.cgroups_ = options.cgroups;
    program.skeleton_.reset(http_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the HTTP BPF object");
    http_bpf& skeleton = *program.skeleton_;
    configure(skeleton, options);
    auto takeover = Takeover::prepare(skeleton.obj, skeleton.maps.program_gate, options.pins);
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    skeleton.rodata->generation = program.takeover_.generation();
    if (const int error =
            options.sockets_fd < 0 ? 0 : bpf_map__reuse_fd(skeleton.maps.sockets, options.sockets_fd);
        error != 0)
        return bpf_failure(-error, "cannot share the sockets of targets with the HTTP programs");
    if (auto loaded = load_programs(skeleton); !loaded)
        return std::unexpected(loaded.error());
    if (auto pinned = program.takeover_.pin_maps(); !pinned)
        return std::unexpected(pinned.error());
    program.draw_hash_key();
    program.read_lists();
    if (handler) {
        program.handler_ = std::make_unique<HttpEventHandler>(std::move(handler));
        if (auto read = program.read_events(); !read)
            return std::unexpected(read.error());
    }
    return program;
}

Result<HttpProgram> HttpProgram::attach(const HttpProgramOptions& options, HttpEventHandler handler) {
    auto program = load(options, std::move(handler));
    if (program)
        if (auto started = program->start(); !started)
            return std::unexpected(started.error());
    return program;
}

Result<void> HttpProgram::start() {
    std::vector<std::string> cgroups = cgroups_;
    if (cgroups.empty()) {
        auto root = find_cgroup_root();
        if (!root)
            return std::unexpected(root.error());
        cgroups.push_back(std::move(*root));
    }
    // First the end of connections, so that none that is seen to begin stays for ever.
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    if (auto opened = takeover_.open(); !opened)
        return opened;
    return takeover_.attach_to_cgroups({skeleton_->progs.http_egress, skeleton_->progs.http_ingress},
                                       cgroups);
}

Result<void> HttpProgram::read_events() {
    ring_.reset(ring_buffer__new(bpf_map__fd(skeleton_->maps.http_events), publish, handler_.get(), nullptr));
    if (!ring_)
        return bpf_failure(errno, "cannot read the events of HTTP services");
    return {};
}

void HttpProgram::draw_hash_key() {
    // Of the kernel's own generator, which is ready long before there are processes (getrandom(2)).
    if (std::uint64_t key = 0;
        skeleton_->bss->http_hash_key == 0 && ::getrandom(&key, sizeof key, 0) == sizeof key)
        skeleton_->bss->http_hash_key = key | 1;
}

// As another process left them.
void HttpProgram::read_lists() {
    if (!takeover_.resumes())
        return;
    for (const auto& [key, owner] :
         read_hash<http_host_key, std::uint32_t>(bpf_map__fd(skeleton_->maps.http_hosts)))
        hosts_.push_back(key);
    for (const auto& [key, nothing] :
         read_hash<http_service_key, std::uint32_t>(bpf_map__fd(skeleton_->maps.http_services)))
        services_.push_back({.netns = key.netns_inode, .port = static_cast<std::uint16_t>(key.port)});
}

void HttpProgram::set_target_ports(const std::vector<std::uint16_t>& ports) {
    set_ports(skeleton_->bss->target_ports, ports);
}

Result<void> HttpProgram::set_hosts(const std::vector<HttpHost>& hosts) {
    const int map = bpf_map__fd(skeleton_->maps.http_hosts);
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> wanted;
    for (const HttpHost& host : hosts)
        wanted.try_emplace({host.target, hash_of(host.name)}, host.owner);
    std::erase_if(hosts_, [&](const http_host_key& key) {
        return !wanted.contains({key.target, key.host}) && bpf_map_delete_elem(map, &key) == 0;
    });
    Result<void> result;
    for (const auto& [place, owner] : wanted) {
        const http_host_key key{.host = place.second, .target = place.first, .reserved = 0};
        const bool is_new = std::ranges::none_of(hosts_, [&](const http_host_key& each) {
            return each.target == key.target && each.host == key.host;
        });
        if (const int error = bpf_map_update_elem(map, &key, &owner, BPF_ANY); error != 0)
            result = bpf_failure(-error, "cannot tell another host's requests apart");
        else if (is_new)
            hosts_.push_back(key);
    }
    __atomic_store_n(&skeleton_->bss->http_tells_hosts, hosts_.empty() ? 0U : 1U, __ATOMIC_RELAXED);
    return result;
}

Result<void> HttpProgram::set_services(const std::vector<HttpServerPort>& services) {
    const int map = bpf_map__fd(skeleton_->maps.http_services);
    std::vector<std::uint16_t> ports;
    Result<void> result;
    for (const HttpServerPort& old : services_) {
        const http_service_key key{.netns_inode = old.netns, .port = old.port};
        if (std::ranges::find(services, old) == services.end())
            bpf_map_delete_elem(map, &key);
    }
    services_.clear();
    for (const HttpServerPort& service : services) {
        const http_service_key key{.netns_inode = service.netns, .port = service.port};
        const std::uint32_t nothing = 0;
        if (const int error = bpf_map_update_elem(map, &key, &nothing, BPF_ANY); error != 0) {
            result = bpf_failure(-error, "cannot watch another HTTP service");
            continue;
        }
        services_.push_back(service);
        ports.push_back(service.port);
    }
    set_ports(skeleton_->bss->service_ports, ports);
    return result;
}

namespace {

HttpCounts read_counts(int requests_fd, int durations_fd, int targets_fd) {
    HttpCounts counts;
    for (const auto& [key, requests] : read_hash<http_status_key, std::uint64_t>(requests_fd))
        counts.requests.push_back({key, requests});
    for (const auto& [key, histogram] : read_hash<http_duration_key, latency_histogram>(durations_fd))
        counts.durations.push_back({key, histogram});
    for (const auto& [target, of_target] : read_hash<std::uint32_t, http_target_counts>(targets_fd))
        counts.targets.push_back({target, of_target});
    return counts;
}

}  // namespace

HttpCounts HttpProgram::read() const {
    return read_counts(bpf_map__fd(skeleton_->maps.http_statuses),
                       bpf_map__fd(skeleton_->maps.http_durations),
                       bpf_map__fd(skeleton_->maps.http_targets));
}

HttpCounts HttpProgram::read_pinned(const PinFolder& pins) {
    const UniqueFd requests =
        open_pinned_map(pins, "http_statuses", sizeof(http_status_key), sizeof(std::uint64_t));
    const UniqueFd durations =
        open_pinned_map(pins, "http_durations", sizeof(http_duration_key), sizeof(latency_histogram));
    const UniqueFd targets =
        open_pinned_map(pins, "http_targets", sizeof(std::uint32_t), sizeof(http_target_counts));
    if (!requests || !durations || !targets)
        return {};
    return read_counts(requests.get(), durations.get(), targets.get());
}

HttpTotals HttpProgram::totals() const {
    HttpTotals totals;
    const int map = bpf_map__fd(skeleton_->maps.http_totals);
    for (std::uint32_t reason = 0; reason < HTTP_LOSSES; ++reason)
        totals.lost[reason] = read_per_cpu_sum(map, reason);
    for (std::uint32_t kind = 0; kind < HTTP_OPAQUE_KINDS; ++kind)
        totals.opaque[kind] = read_per_cpu_sum(map, http_opaque_index(static_cast<http_opaque>(kind)));
    return totals;
}

void HttpProgram::forget(const std::vector<std::uint32_t>& targets) {
    const std::set<std::uint32_t> gone(targets.begin(), targets.end());
    const int statuses = bpf_map__fd(skeleton_->maps.http_statuses);
    for (const auto& [key, requests] : read_hash<http_status_key, std::uint64_t>(statuses)) {
        if (gone.contains(key.target))
            bpf_map_delete_elem(statuses, &key);
    }
    for (const std::uint32_t target : gone) {
        for (std::uint32_t method = 0; method < HTTP_METHODS; ++method) {
            const http_duration_key key{.target = target, .method = method};
            bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.http_durations), &key);
        }
        bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.http_targets), &target);
    }
}

Result<std::size_t> HttpProgram::consume() {
    if (!ring_)
        return std::size_t{0};
    const int consumed = ring_buffer__consume(ring_.get());
    if (consumed < 0)
        return bpf_failure(-consumed, "cannot read the events of HTTP services");
    return static_cast<std::size_t>(consumed);
}

Result<std::size_t> HttpProgram::erase_consumed() {
    std::size_t consumed = 0;
    const std::size_t pieces = bpf_map__max_entries(skeleton_->maps.http_events) / HTTP_ERASE_BYTES + 1;
    for (std::size_t piece = 0; ring_ && piece < pieces; ++piece) {
        LIBBPF_OPTS(bpf_test_run_opts, run);
        if (const int error =
                bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.http_erase_events), &run);
            error != 0)
            return bpf_failure(-error, "cannot erase the events of HTTP services");
        const auto now = consume();
        if (!now)
            return now;
        consumed += *now;
    }
    return consumed;
}

int HttpProgram::events_fd() const {
    return ring_ ? ring_buffer__epoll_fd(ring_.get()) : -1;
}

std::size_t HttpProgram::connections() const {
    std::size_t count = 0;
    for (const bpf_map* const map :
         {skeleton_->maps.http_connections, skeleton_->maps.http_service_connections}) {
        std::uint64_t key = 0;
        const std::uint64_t* previous = nullptr;
        while (bpf_map_get_next_key(bpf_map__fd(map), previous, &key) == 0) {
            previous = &key;
            ++count;
        }
    }
    return count;
}

int HttpProgram::program_fd(bool ingress) const {
    return bpf_program__fd(ingress ? skeleton_->progs.http_ingress : skeleton_->progs.http_egress);
}

}  // namespace pangolin
