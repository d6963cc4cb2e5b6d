// Writes metric families in Prometheus' text format and in OpenMetrics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace pangolin {

enum class ExpositionFormat : std::uint8_t {
    text,          // text/plain; version=0.0.4
    open_metrics,  // application/openmetrics-text; version=1.0.0
};

std::string_view content_type(ExpositionFormat format);

enum class MetricType : std::uint8_t { counter, gauge, histogram, summary, info, unknown };
std::string_view to_string(MetricType type);

inline constexpr std::string_view no_unit;

// A family as HELP, TYPE and UNIT describe it. `name` is the name on the sample lines of a counter, gauge or
// info ("…_total", "…_info" included) in both formats.
struct FamilyHeader {
    std::string_view name;
    MetricType type = MetricType::unknown;
    std::string_view unit = no_unit;
    std::string_view help;
};

// The label that a histogram's or summary's sample has beyond its metric's: le or quantile.
struct BoundLabel {
    std::string_view name;
    double value = 0;
};

// Appends lines to a buffer that is reused: clear() keeps the memory, and a sample allocates nothing.
// Text from outside may be any bytes; it is escaped and made valid UTF-8.
class TextWriter {
  public:
    TextWriter(ExpositionFormat format, std::size_t capacity);

    // The views in `family` must live until the next family. Its header is written with its first sample, so
    // that a family without samples leaves no trace.
    void begin_family(const FamilyHeader& family);

    // One line; `suffix` ("_sum", "_bucket", ...) follows the family's name. As many values as names.
    void sample(std::string_view suffix, std::span<const std::string_view> names,
                std::span<const std::string_view> values, std::uint64_t value);
    void sample(std::string_view suffix, std::span<const std::string_view> names,
                std::span<const std::string_view> values, double value);
    void sample(std::string_view suffix, std::span<const std::string_view> names,
                std::span<const std::string_view> values, BoundLabel bound, double value);
    // `count` observations in a histogram's buckets up to `bound`.
    void bucket(std::span<const std::string_view> names, std::span<const std::string_view> values,
                double bound, std::uint64_t count);

    // Ends the answer ("# EOF" in OpenMetrics).
    void finish();

    std::string_view text() const { return {data_.get(), size_}; }
    std::size_t size() const { return size_; }
    void clear() { size_ = 0; }

  private:
    // Room for `bytes` more at the returned place; set_end() then says how far it was used.
    char* room(std::size_t bytes);
    void set_end(const char* end) { size_ = static_cast<std::size_t>(end - data_.get()); }
    char* write_name_and_labels(std::string_view suffix, std::span<const std::string_view> names,
                                std::span<const std::string_view> values, const BoundLabel* bound);
    void write_header();
    void write_meta(std::string_view keyword, std::string_view text);

    ExpositionFormat format_;
    std::unique_ptr<char[]> data_;
    std::size_t size_ = 0;
    std::size_t capacity_;

    FamilyHeader family_;
    std::string_view family_name_;
    bool header_due_ = false;
};

}  // namespace pangolin
