// One family of a scraped page while its lines are read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/application/application_series.h"
#include "exporter/application/rejection.h"

namespace pangolin {

// The words behind "# TYPE".
enum class ScrapedType : std::uint8_t {
    unknown,
    counter,
    gauge,
    histogram,
    gauge_histogram,
    summary,
    info,
    state_set,
};

class ScrapedFamily {
  public:
    explicit ScrapedFamily(std::string name) : name_(std::move(name)) {}

    const std::string& name() const { return name_; }
    ScrapedType type() const { return type_.value_or(ScrapedType::unknown); }
    bool has_samples() const { return has_samples_; }

    // False: it was said before.
    bool set_type(ScrapedType type);
    bool set_help(std::string help);
    bool set_unit(std::string unit);

    // `suffix` is what the line's name has beyond the family's: one that the family's type knows.
    void add(std::string_view suffix, Labels labels, double value, ApplicationOutcome& outcome);

    // Ends it. None: no sample is left.
    std::optional<ApplicationFamily> finish(ApplicationOutcome& outcome);

  private:
    // The samples of one histogram or summary.
    struct Series {
        // By le or quantile.
        std::vector<std::pair<double, double>> points;
        std::optional<double> sum;
        std::optional<double> count;
        bool malformed = false;
    };

    void add_part(std::string_view suffix, Labels labels, double value);
    static std::optional<HistogramValue> histogram(Series& series);
    static std::optional<SummaryValue> summary(Series& series);
    ApplicationFamilyHeader header() const;

    std::string name_;
    std::optional<ScrapedType> type_;
    std::optional<std::string> help_;
    std::optional<std::string> unit_;
    bool has_samples_ = false;
    bool has_total_suffix_ = false;
    std::vector<ApplicationSample> samples_;
    // Sorted, so that the order of labels and of lines does not matter.
    std::map<Labels, Series> series_;
};

}  // namespace pangolin
