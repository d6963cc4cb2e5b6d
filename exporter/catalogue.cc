#include "exporter/catalogue.h"

#include <vector>

#include "exporter/catalogue/rows.h"

namespace pangolin {

std::span<const Metric> catalogue() {
    static const std::vector<Metric> rows = [] {
        std::vector<Metric> all;
        for (const auto& part :
             {site_rows(), resource_rows(), http_rows(), tunnel_rows(), control_rows(), peer_rows(),
              account_rows(), certificate_rows(), host_rows(), application_rows(), exporter_rows()})
            all.insert(all.end(), part.begin(), part.end());
        return all;
    }();
    return rows;
}

}  // namespace pangolin
