#include "loader/bpf_iterator.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"

namespace pangolin {

Result<void> run_iterator(int link_fd, std::string_view what) {
    const UniqueFd iterator(bpf_iter_create(link_fd));
    if (!iterator)
        return bpf_failure(errno, "cannot list " + std::string(what));
    std::array<char, 64> nothing{};
    ssize_t size = 0;
    // EAGAIN after a million objects: to be continued.
    do
        size = ::read(iterator.get(), nothing.data(), nothing.size());
    while (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR)));
    if (size < 0)
        return bpf_failure(errno, "cannot read " + std::string(what));
    return {};
}

}  // namespace pangolin
