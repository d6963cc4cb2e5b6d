#include "exporter/snapshot_view.h"

#include <map>
#include <utility>

namespace pangolin {

SnapshotView::SnapshotView(const Snapshot& snapshot) : snapshot_(snapshot) {
    std::map<std::string_view, unsigned> uses;
    for (const InterfaceSnapshot& interface : snapshot.interfaces)
        ++uses[interface.name];
    std::map<std::string, unsigned> labels;
    for (const InterfaceSnapshot& interface : snapshot.interfaces) {
        std::string label = interface.name;
        if (uses[interface.name] > 1)
            label += "@" + interface.netns;
        // While a container restarts, its old namespace and its new one may have one name.
        if (const unsigned nth = ++labels[label]; nth > 1)
            label += "#" + std::to_string(nth);
        interface_labels_.push_back(std::move(label));
    }
}

std::string_view SnapshotView::interface_label(std::uint32_t interface) const {
    return interface < interface_labels_.size() ? std::string_view(interface_labels_[interface]) : "";
}

}  // namespace pangolin
