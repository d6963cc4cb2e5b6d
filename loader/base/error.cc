#include "loader/base/error.h"

#include <system_error>

namespace pangolin {

std::unexpected<Error> system_failure(int code, std::string_view what, std::string hint) {
    return failure(std::string(what) + ": " + std::generic_category().message(code), std::move(hint), code);
}

}  // namespace pangolin
