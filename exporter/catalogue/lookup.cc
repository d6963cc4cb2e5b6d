#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "exporter/catalogue.h"

namespace pangolin {

std::span<const double> histogram_bounds(const Metric& row) {
    // From a fast answer on the same host to the patience of proxies.
    static constexpr std::array seconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                        0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0};
    // From an empty answer to a large download, in steps of four.
    static constexpr std::array bytes{256.0,    1024.0,    4096.0,    16384.0,    65536.0,
                                      262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0};
    return row.unit == "bytes" ? std::span<const double>(bytes) : std::span<const double>(seconds);
}

const Metric& catalogue_row(std::string_view name) {
    const auto rows = catalogue();
    const auto row = std::ranges::find(rows, name, &Metric::name);
    if (row == rows.end())
        throw std::logic_error("no row in the catalogue: " + std::string(name));
    return *row;
}

}  // namespace pangolin
