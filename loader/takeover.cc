#include "loader/takeover.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "loader/base/number.h"
#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/grace_period.h"
#include "loader/mapped_array.h"
#include "loader/pinned_maps.h"

namespace pangolin {
namespace {

// Of a generation's programs that cannot be replaced in their place.
constexpr std::string_view links_prefix = "links-";

std::string links_of(std::uint32_t generation) {
    return std::string(links_prefix) + std::to_string(generation);
}

std::uint32_t newest_links(const PinFolder& pins) {
    std::uint32_t newest = 0;
    for (const std::string& name : pins.entries()) {
        if (name.starts_with(links_prefix))
            newest = std::max(
                newest,
                parse_number<std::uint32_t>(std::string_view(name).substr(links_prefix.size())).value_or(0));
    }
    return newest;
}

void remove_links(const PinFolder& pins, std::string_view but) {
    for (const std::string& name : pins.entries()) {
        if (name.starts_with(links_prefix) && name != but)
            pins.remove(name);
    }
}

// A link whose control group is gone has none.
std::uint64_t cgroup_of(const bpf_link* link) {
    bpf_link_info info{};
    std::uint32_t length = sizeof info;
    if (link == nullptr || bpf_link_get_info_by_fd(bpf_link__fd(link), &info, &length) != 0)
        return 0;
    return info.cgroup.cgroup_id;
}

// The kernel's number of the control group is its folder's.
Result<std::uint64_t> cgroup_number(const std::string& folder) {
    struct stat status{};
    if (::stat(folder.c_str(), &status) != 0)
        return system_failure(errno, "cannot open " + folder);
    return status.st_ino;
}

bool is_tracing(const bpf_program* program) {
    switch (bpf_program__expected_attach_type(program)) {
        case BPF_TRACE_RAW_TP:
        case BPF_TRACE_FENTRY:
        case BPF_TRACE_FEXIT:
            return bpf_program__autoload(program);
        default:
            return false;
    }
}

// A thread that runs on a CPU interrupts no event of that CPU between two programs of it. Where the thread
// may not run (cpusets) the gate is passed on all the same.
void pass_on(std::span<std::uint64_t> gate, std::uint32_t generation) {
    std::jthread([&] {
        const std::size_t size = CPU_ALLOC_SIZE(gate.size());
        const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> one(CPU_ALLOC(gate.size()),
                                                                   [](cpu_set_t* set) { CPU_FREE(set); });
        for (std::size_t cpu = 0; cpu < gate.size(); ++cpu) {
            CPU_ZERO_S(size, one.get());
            CPU_SET_S(cpu, size, one.get());
            ::sched_setaffinity(0, size, one.get());
            __atomic_store_n(&gate[cpu], generation, __ATOMIC_RELEASE);
        }
    });
}

}  // namespace

Result<Takeover> Takeover::prepare(bpf_object* object, bpf_map* gate, const std::optional<KeptPins>& pins) {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return system_failure(-cpus, "cannot read the number of possible CPUs");
    if (gate != nullptr)
        bpf_map__set_max_entries(gate, static_cast<std::uint32_t>(cpus));
    Takeover takeover;
    takeover.object_ = object;
    takeover.gate_map_ = gate;
    takeover.pins_ = pins;
    takeover.shared_ = shared_maps(object);
    if (!pins)
        return takeover;
    if (auto used = takeover.use_pinned(); !used)
        return std::unexpected(used.error());
    return takeover;
}

Result<void> Takeover::use_pinned() {
    generation_ = newest_links(pins_->folder);
    if (pins_->folder.exists()) {
        const auto reused = reuse_pinned_maps(object_, pins_->folder, PinnedRoom::as_asked_for);
        if (!reused)
            return std::unexpected(reused.error());
        if (!*reused)
            return failure("the BPF maps pinned in " + pins_->folder.path() + " are not what is asked for",
                           {}, ESTALE);
        resumes_ = true;
    }
    for (const PinFolder& before : pins_->before) {
        generation_ = std::max(generation_, newest_links(before));
        if (resumes_ || gate_map_ == nullptr)
            continue;
        if (const UniqueFd gate = before.open(bpf_map__name(gate_map_)); gate) {
            if (const int error = bpf_map__reuse_fd(gate_map_, gate.get()); error != 0)
                return bpf_failure(-error, "cannot share the programs' gate");
        }
    }
    ++generation_;
    return {};
}

Result<void> Takeover::pin_maps() {
    if (!pins_ || resumes_)
        return {};
    if (auto created = pins_->folder.create(); !created)
        return created;
    return pangolin::pin_maps(object_, pins_->folder, shared_);
}

Result<void> Takeover::attach_tracing() {
    std::optional<PinFolder> folder;
    if (pins_) {
        folder = pins_->folder.below(links_of(generation_));
        if (auto created = folder->create(); !created)
            return created;
    }
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object_) {
        if (!is_tracing(program))
            continue;
        BpfLink link(bpf_program__attach(program));
        if (!link)
            return bpf_failure(
                errno, "cannot attach the BPF program '" + std::string(bpf_program__name(program)) + "'");
        if (folder)
            if (auto pinned = folder->pin(bpf_link__fd(link.get()), bpf_program__name(program)); !pinned)
                return pinned;
        links_.push_back(std::move(link));
    }
    return {};
}

Result<void> Takeover::open() {
    auto gate = MappedArray<std::uint64_t>::map(bpf_map__fd(gate_map_), bpf_map__max_entries(gate_map_));
    if (!gate)
        return std::unexpected(gate.error());
    pass_on(gate->elements(), generation_);
    // Where the thread may not run on a CPU, a program of before may be past the gate.
    wait_for_running_programs();
    if (!pins_)
        return {};
    remove_links(pins_->folder, links_of(generation_));
    for (const PinFolder& before : pins_->before)
        remove_links(before, {});
    return {};
}

Result<BpfLink> Takeover::link_to_cgroup(bpf_program* program, const std::string& folder,
                                         const std::string& name) {
    const auto number = cgroup_number(folder);
    if (!number)
        return std::unexpected(number.error());
    if (pins_) {
        std::vector<PinFolder> places = pins_->before;
        places.push_back(pins_->folder);
        for (const PinFolder& place : places) {
            BpfLink link(bpf_link__open(place.path_of(name).c_str()));
            if (cgroup_of(link.get()) != *number)
                continue;
            if (auto pinned = pins_->folder.pin(bpf_link__fd(link.get()), name); !pinned)
                return std::unexpected(pinned.error());
            if (const int error = bpf_link__update_program(link.get(), program); error != 0)
                return bpf_failure(-error, "cannot replace a BPF program in " + folder);
            return link;
        }
    }
    const UniqueFd cgroup(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!cgroup)
        return system_failure(errno, "cannot open " + folder);
    BpfLink link(bpf_program__attach_cgroup(program, cgroup.get()));
    if (!link)
        return bpf_failure(errno, "cannot attach a BPF program to the control group " + folder);
    if (pins_)
        if (auto pinned = pins_->folder.pin(bpf_link__fd(link.get()), name); !pinned)
            return std::unexpected(pinned.error());
    return link;
}

Result<void> Takeover::attach_to_cgroups(const std::vector<bpf_program*>& programs,
                                         const std::vector<std::string>& folders) {
    std::set<std::string> names;
    for (const std::string& folder : folders) {
        const auto number = cgroup_number(folder);
        if (!number)
            return std::unexpected(number.error());
        for (bpf_program* const program : programs) {
            const std::string name = bpf_program__name(program) + ("-" + std::to_string(*number));
            if (!names.insert(name).second || cgroup_links_.contains(name))
                continue;
            auto link = link_to_cgroup(program, folder, name);
            if (!link)
                return std::unexpected(link.error());
            cgroup_links_.emplace(name, std::move(*link));
        }
    }
    std::erase_if(cgroup_links_, [&](const auto& link) { return !names.contains(link.first); });
    if (!pins_)
        return {};
    for (const std::string& pinned : pins_->folder.entries()) {
        const bool is_ours = std::ranges::any_of(programs, [&](const bpf_program* program) {
            return pinned.starts_with(bpf_program__name(program) + std::string("-"));
        });
        if (is_ours && !names.contains(pinned))
            pins_->folder.remove(pinned);
    }
    return {};
}

bool Takeover::is_attached(const PinFolder& pins) {
    return newest_links(pins) != 0;
}

}  // namespace pangolin
