#include "exporter/application/rejection.h"

namespace pangolin {

std::string_view to_string(Rejection rejection) {
    static constexpr std::array<std::string_view, rejections> names{
        "owned_by_exporter", "type_mismatch",   "label_mismatch", "invalid_name",
        "invalid_label",     "invalid_value",   "name_collision", "duplicate_series",
        "out_of_order",      "bucket_mismatch", "series_limit",   "unsupported"};
    return names.at(static_cast<std::size_t>(rejection));
}

}  // namespace pangolin
