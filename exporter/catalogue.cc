#include "exporter/catalogue.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "exporter/catalogue/rows.h"

namespace pangolin {

std::span<const Metric> catalogue() {
    static const std::vector<Metric> rows = [] {
        std::vector<Metric> all;
        for (const auto& part : {site_rows(), resource_rows(), tunnel_rows(), control_rows(), peer_rows(),
                                 certificate_rows(), exporter_rows()})
            all.insert(all.end(), part.begin(), part.end());
        return all;
    }();
    return rows;
}

const Metric& catalogue_row(std::string_view name) {
    const auto rows = catalogue();
    const auto row = std::ranges::find(rows, name, &Metric::name);
    if (row == rows.end())
        throw std::logic_error("no row in the catalogue: " + std::string(name));
    return *row;
}

}  // namespace pangolin
