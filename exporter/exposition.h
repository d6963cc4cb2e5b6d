// A whole answer to a scrape, written piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/metric_family.h>

#include "exporter/application/application_series.h"
#include "exporter/body.h"
#include "exporter/catalogue.h"
#include "exporter/snapshot_view.h"
#include "exporter/text_writer.h"

namespace pangolin {

// A cursor over (family, element): at thousands of sites the answer has tens of megabytes and is never in
// memory as a whole. The catalogue's families come first, with what `application` has for them, then
// `families` (of a prometheus::Registry) as they are, then the other families of `application`.
class Exposition final : public Body {
  public:
    // A block is sent when it is at least this long.
    static constexpr std::size_t block_size = std::size_t{64} * 1024;

    Exposition(std::shared_ptr<const Snapshot> snapshot,
               std::shared_ptr<const std::vector<prometheus::MetricFamily>> families, ExpositionFormat format,
               std::shared_ptr<const ApplicationSnapshot> application = nullptr);

    std::string_view next_block() override;

  private:
    enum class Stage : std::uint8_t { catalogue, families, application, end, done };

    bool full() const { return writer_.size() >= block_size; }
    // Each continues where it stopped and returns true when nothing of it is left.
    bool write_catalogue();
    bool write_row(const Metric& metric);
    bool write_own(const Metric& metric);
    bool write_families();
    bool write_application();
    // Of one family, from element_ on.
    bool write_series(const PublishedFamily& family);

    std::shared_ptr<const Snapshot> snapshot_;
    std::shared_ptr<const std::vector<prometheus::MetricFamily>> families_;
    std::shared_ptr<const ApplicationSnapshot> application_;
    SnapshotView view_;
    TextWriter writer_;

    Stage stage_ = Stage::catalogue;
    std::size_t family_ = 0;
    std::size_t element_ = 0;
    // The own series of the current row are written: element_ is of the application's.
    bool own_written_ = false;
    // Label values of the own series of a row that applications add to; they win.
    std::set<std::string> written_;
};

}  // namespace pangolin
