// The catalogue: every metric family that this program publishes, and how each is read off a snapshot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <variant>

#include "exporter/snapshot_view.h"
#include "exporter/text_writer.h"
#include "userspace/snapshot.h"

namespace pangolin {

// Takes the samples of one family. Label values are in the order of the row's label names and are copied.
class Samples {
  public:
    using LabelValues = std::initializer_list<std::string_view>;

    Samples() = default;
    Samples(const Samples&) = delete;
    Samples& operator=(const Samples&) = delete;
    virtual ~Samples() = default;

    virtual void add(LabelValues labels, std::uint64_t value) = 0;
    virtual void add(LabelValues labels, double value) = 0;
    virtual void add_summary(LabelValues labels, double sum, std::uint64_t count) = 0;
    // `buckets` are counts by bucket, not cumulated: one for each bound and one for what is beyond the last.
    virtual void add_histogram(LabelValues labels, std::span<const double> bounds,
                               std::span<const __u64> buckets, double sum) = 0;
};

// What a row is asked for: one element of the snapshot at a time, so that an answer can be written in pieces,
// or the whole snapshot where a family is small.
using EmitSite = void (*)(const SiteSnapshot&, const SnapshotView&, Samples&);
using EmitResource = void (*)(const ResourceAccount&, const SnapshotView&, Samples&);
using EmitTarget = void (*)(const TargetAccount&, const SnapshotView&, Samples&);
using EmitBackend = void (*)(const BackendAccount&, const SnapshotView&, Samples&);
using EmitPeer = void (*)(const PeerSnapshot&, const SnapshotView&, Samples&);
using EmitSnapshot = void (*)(const SnapshotView&, Samples&);
// Not in the snapshot: kept by SelfMetrics (source S) or measured by applications (source A).
struct EmitNothing {};
using Emit =
    std::variant<EmitNothing, EmitSite, EmitResource, EmitTarget, EmitBackend, EmitPeer, EmitSnapshot>;

// Label names of one family, fixed at compile time.
class LabelNames {
  public:
    constexpr LabelNames(std::initializer_list<std::string_view> names) {
        for (const std::string_view name : names)
            names_.at(size_++) = name;
    }
    // Implicit: it is one, to those who take one.
    constexpr operator std::span<const std::string_view>() const { return {names_.data(), size_}; }
    constexpr auto begin() const { return names_.begin(); }
    constexpr auto end() const { return names_.begin() + size_; }
    constexpr std::size_t size() const { return size_; }

  private:
    std::array<std::string_view, 6> names_{};
    std::size_t size_ = 0;
};

// One row. Its name is the one on the sample lines of the text format.
struct Metric {
    std::string_view name;
    MetricType type = MetricType::gauge;
    // The base unit that the name states.
    std::string_view unit = no_unit;
    LabelNames labels = {};
    // One sentence.
    std::string_view help;
    // Where the numbers come from, the first that is available: K kernel (eBPF), W WireGuard, H HTTP seen in
    // the kernel, D Pangolin's database or a sites.yml, F files, A pushed by an application, S the exporter
    // itself.
    std::string_view source;
    Emit emit = EmitNothing{};
    // Whether a collection shows that this host has what the numbers come from; null: what `source` says.
    bool (*has_source)(const Snapshot&) = nullptr;
    // What there is of the family beside the elements that `emit` is asked for; null: nothing.
    EmitSnapshot emit_rest = nullptr;

    FamilyHeader header() const { return {.name = name, .type = type, .unit = unit, .help = help}; }
};

// All rows, in the order of publication.
std::span<const Metric> catalogue();

// Whether the exporter measures the family by itself on this host, as a collection shows it: its source is
// there, whether or not it has seen anything yet. Applications may publish the family where it does not.
bool is_measured(const Metric& row, const Snapshot& snapshot);

// The bounds of a histogram that is recorded through MetricsService.
std::span<const double> histogram_bounds(const Metric& row);

// The row of that name, which must exist.
const Metric& catalogue_row(std::string_view name);

}  // namespace pangolin
