// Collector over the end of its process.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "userspace/collector.h"
#include "userspace/state/ledger_state.h"

namespace pangolin {
namespace {

// As SnapshotPart::kept_as().
constexpr std::string_view control_plane = "control_plane";

std::string boot_id() {
    std::string id;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
    return id;
}

Error unreadable() {
    return {"the state file has parts that this version does not understand",
            "Totals of these begin anew; an exporter of a newer version may have written it.", 0};
}

}  // namespace

MonitorKeeping Collector::keeping() {
    if (!options_.persistence)
        return {};
    return {.pins = options_.persistence->pins(),
            .write_state = [this] { write_state(WriteReason::change); },
            .resumes = resumes_};
}

void Collector::restore() {
    if (!options_.persistence)
        return;
    const auto content = options_.persistence->read();
    if (!content)
        return;
    std::vector<InterfaceState> interfaces;
    SocketState sockets;
    std::vector<HealthState> healths;
    std::vector<PeerStatisticsState> statistics;
    std::string boot;
    std::string pin_root;
    ArchiveReader reader(*content);
    const bool complete = reader.blocks([&](std::uint32_t number, ArchiveReader& block) {
        const auto kind = static_cast<StateBlock>(number);
        // The first one.
        if (kind == StateBlock::boot)
            block(boot);
        else if (kind == StateBlock::pin_root)
            block(pin_root);
        else if (kind == StateBlock::ended_losses)
            block(ended_losses_, ended_health_losses_);
        else if (kind == StateBlock::part)
            restore_part(block);
        else if (kind == StateBlock::interface)
            block(interfaces.emplace_back());
        else if (kind == StateBlock::sockets)
            block(sockets);
        else if (kind == StateBlock::health)
            block(healths.emplace_back());
        else if (kind == StateBlock::peer_statistics)
            block(statistics.emplace_back());
        else if (kind != StateBlock::tunnel_readings || boot == boot_id())
            read_ledger_block(kind, block, ledger_);
    });
    if (!complete) {
        spdlog::warn("{}", unreadable().message());
        return;
    }
    if (boot != boot_id())
        return;
    options_.persistence->leave(pin_root);
    resumes_ = options_.persistence->pins_understood();
    if (resumes_)
        sockets_.restore(sockets, ledger_);
    for (const InterfaceState& state : interfaces) {
        for (const PeerState& peer : state.peers) {
            if (peer.reported)
                ledger_.sites.keep_reading(peer.key, peer.reading);
        }
        if (!resumes_ || state.pins.empty())
            continue;
        auto monitor = InterfaceMonitor::restore(state, options_.limits, keeping(), ledger_);
        if (monitor) {
            for (const HealthState& health : healths) {
                if (health.interface.same_as(state.interface))
                    (*monitor)->restore_health(health);
            }
            for (const PeerStatisticsState& each : statistics) {
                if (each.interface.same_as(state.interface))
                    (*monitor)->restore_statistics(each);
            }
            paused_.push_back(std::move(*monitor));
        } else {
            spdlog::warn("{}: what was counted since the exporter's last end is lost: {}",
                         state.interface.name, monitor.error().message());
        }
    }
}

void Collector::restore_part(ArchiveReader& block) {
    std::string name;
    block(name);
    if (name == control_plane)
        kept_control_plane_.assign(block.rest().begin(), block.rest().end());
    for (const auto& part : options_.parts) {
        if (!name.empty() && part->kept_as() == name)
            part->restore(block);
    }
}

void Collector::write_parts(ArchiveWriter& writer) {
    const auto write = [&](std::string_view name, auto content) {
        writer.block(static_cast<std::uint32_t>(StateBlock::part), [&](ArchiveWriter& block) {
            block(std::string(name));
            content(block);
        });
    };
    for (const auto& part : options_.parts) {
        if (!part->kept_as().empty())
            write(part->kept_as(), [&](ArchiveWriter& block) { part->save(block); });
    }
    write(control_plane, [&](ArchiveWriter& block) {
        if (sockets_.http().observes_control_plane())
            sockets_.http().save(block);
        else
            block.append(kept_control_plane_);
    });
}

void Collector::resume_paused(const std::vector<WireGuardInterface>& found, bool complete) {
    if (paused_.empty())
        return;
    for (std::size_t at = paused_.size(); at-- > 0;) {
        const auto same = std::ranges::find_if(found, [&](const WireGuardInterface& interface) {
            return interface.same_as(paused_[at]->interface());
        });
        if (same == found.end() && !complete)
            continue;
        std::unique_ptr<InterfaceMonitor> monitor = std::move(paused_[at]);
        paused_.erase(paused_.begin() + static_cast<std::ptrdiff_t>(at));
        // It is written down while it resumes.
        monitors_.push_back(std::move(monitor));
        InterfaceMonitor& resumed = *monitors_.back();
        const auto result = same == found.end()
                                ? failure("the interface is gone")
                                : resumed.resume(*same, options_.attach, options_.handshakes, ledger_);
        if (result) {
            attached_once_ = true;
            continue;
        }
        spdlog::info("{} in network namespace {}: {}", resumed.interface().name,
                     resumed.interface().netns.name, result.error().what);
        end_monitor(resumed);
        monitors_.pop_back();
    }
    write_state(WriteReason::change);
}

void Collector::write_state(WriteReason reason) {
    if (options_.persistence) {
        ArchiveWriter writer;
        writer.block(static_cast<std::uint32_t>(StateBlock::boot),
                     [](ArchiveWriter& block) { block(boot_id()); });
        writer.block(static_cast<std::uint32_t>(StateBlock::pin_root),
                     [this](ArchiveWriter& block) { block(options_.persistence->pin_dir()); });
        const SocketState sockets = sockets_.state();
        write_ledger(writer, ledger_);
        writer.block(static_cast<std::uint32_t>(StateBlock::ended_losses), [this](ArchiveWriter& block) {
            TrafficLosses ended = ended_losses_;
            for (const auto& monitor : monitors_)
                if (monitor)
                    ended += monitor->replaced_losses();
            block(ended, ended_health_losses_);
        });
        if (!sockets.pins.empty() || !sockets.http.pins.empty())
            writer.block(static_cast<std::uint32_t>(StateBlock::sockets),
                         [&](ArchiveWriter& block) { block(sockets); });
        write_parts(writer);
        const auto write = [&](const std::unique_ptr<InterfaceMonitor>& monitor) {
            // Those that are ended are being removed from the list.
            if (!monitor || !monitor->loaded())
                return;
            writer.block(static_cast<std::uint32_t>(StateBlock::interface),
                         [&](ArchiveWriter& block) { block(monitor->state()); });
            writer.block(static_cast<std::uint32_t>(StateBlock::health),
                         [&](ArchiveWriter& block) { block(monitor->health_state()); });
            writer.block(static_cast<std::uint32_t>(StateBlock::peer_statistics),
                         [&](ArchiveWriter& block) { block(monitor->statistics_state()); });
        };
        std::ranges::for_each(monitors_, write);
        std::ranges::for_each(paused_, write);
        options_.persistence->write(writer, reason);
    }
    for (const auto& monitor : monitors_) {
        if (monitor)
            monitor->forget_written();
    }
    sockets_.forget_written();
    for (TrafficProgram& program : ended_programs_)
        program.unpin();
    ended_programs_.clear();
}

// Those of a state file that is lost, or of a process that was killed between pinning and writing.
void Collector::remove_unknown_pins() {
    if (pins_looked_through_ || !paused_.empty() || !options_.persistence)
        return;
    pins_looked_through_ = true;
    const PinRoot* const pins = options_.persistence->pins();
    if (pins == nullptr)
        return;
    std::set<std::string> known;
    for (const auto& monitor : monitors_)
        known.insert(monitor->state().pins);
    std::vector<PinFolder> unknown;
    for (const std::string& path : pins->generations()) {
        if (!known.contains(path))
            unknown.push_back(pins->folder(path));
    }
    const auto is_known = [&](const PinFolder& traffic) {
        return std::ranges::any_of(monitors_, [&](const auto& monitor) {
            return pins->interface(monitor->interface()).path() == traffic.path();
        });
    };
    std::ranges::move(pins->forgotten(is_known), std::back_inserter(unknown));
    for (const PinFolder& folder : unknown)
        spdlog::debug("removing {}, which nobody knows", folder.path());
    detach_pinned(unknown);
}

}  // namespace pangolin
