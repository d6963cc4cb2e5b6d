#include "userspace/metadata/site_directory.h"

namespace pangolin {

std::string_view to_string(SiteType type) {
    switch (type) {
        case SiteType::newt:
            return "newt";
        case SiteType::wireguard:
            return "wireguard";
        case SiteType::local:
            return "local";
    }
    return "unknown";
}

}  // namespace pangolin
