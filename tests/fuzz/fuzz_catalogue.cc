// A small catalogue for the fuzzers: rows that are open to applications and rows of the exporter, without the
// userspace part that the others read.
#include <vector>

#include "exporter/catalogue/rows.h"

namespace pangolin {

std::span<const Metric> catalogue() {
    static const std::vector<Metric> rows = [] {
        std::vector<Metric> all;
        for (const auto& part : {application_rows(), exporter_rows()})
            all.insert(all.end(), part.begin(), part.end());
        return all;
    }();
    return rows;
}

}  // namespace pangolin
