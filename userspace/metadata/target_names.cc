#include "userspace/metadata/target_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "loader/process_access.h"
#include "loader/traefik_process.h"

namespace pangolin {
namespace {

constexpr std::chrono::milliseconds time_limit{1000};

bool is_named(const Target& target) {
    return target.dialled && !target.dialled->address;
}

Result<ForeignLookup> look_up_as(const TraefikProcess& process, const std::set<std::string>& names,
                                 std::chrono::milliseconds limit) {
    const auto root = open_root_folder_of(process.pid);
    if (!root)
        return std::unexpected(root.error());
    return look_up_inside(process.netns, "/proc/self/fd/" + std::to_string(root->get()), names, limit);
}

}  // namespace

void TargetNames::resolve(SiteDirectory& directory) {
    std::set<std::string> names;
    for (const Target& target : directory.targets)
        if (is_named(target))
            names.insert(target.dialled->host);
    if (names.empty()) {
        known_.clear();
        return;
    }
    look_up(names);
    for (Target& target : directory.targets)
        if (is_named(target))
            if (const auto known = known_.find(target.dialled->host); known != known_.end())
                target.resolved = known->second;
}

void TargetNames::look_up(const std::set<std::string>& names) {
    const std::vector<TraefikProcess> processes = find_dialling_traefiks();
    AddressesByName found;
    std::set<std::string> unanswered;
    std::string trouble;
    for (const TraefikProcess& process : processes) {
        auto answer = look_up_as(process, names, time_limit / processes.size());
        if (!answer) {
            trouble = answer.error().message();
            unanswered = names;
            continue;
        }
        unanswered.merge(answer->unanswered);
        for (auto& [name, addresses] : answer->found)
            std::ranges::copy(addresses, std::back_inserter(found[name]));
    }
    if (processes.empty())
        unanswered = names;
    for (const std::string& name : unanswered)
        if (const auto before = known_.find(name); before != known_.end())
            found.try_emplace(name, std::move(before->second));
    known_ = std::move(found);

    std::set<std::string> missing = names;
    std::erase_if(missing, [&](const std::string& name) { return known_.contains(name); });
    if (trouble.empty() && !missing.empty())
        trouble = fmt::format(
            "{} {} (HINT: Targets of local sites that are names are looked up as Traefik does, in its "
            "network namespace.)",
            fmt::join(missing, ", "),
            processes.empty() ? "cannot be looked up while no Traefik runs" : "has no address");
    warn_once(trouble);
}

void TargetNames::warn_once(const std::string& trouble) {
    if (!trouble.empty() && trouble != trouble_)
        spdlog::warn("targets: {}", trouble);
    trouble_ = trouble;
}

}  // namespace pangolin
