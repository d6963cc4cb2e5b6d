// A registry in which applications own all that they can.
#pragma once

#include "exporter/application/application_metrics.h"

namespace pangolin {

inline ApplicationOptions everything_given_away() {
    ApplicationOptions options;
    for (const Metric& row : catalogue())
        if (row.source != "S")
            options.prefer.emplace_back(row.name);
    return options;
}

}  // namespace pangolin
