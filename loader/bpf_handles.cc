#include "loader/bpf_handles.h"

#include <bpf/libbpf.h>

namespace pangolin {

void BpfLinkDeleter::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}

}  // namespace pangolin
