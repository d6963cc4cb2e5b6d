#include "exporter/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace pangolin {

void open_standard_streams() {
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
            // open() takes the lowest free number, which is this one. Opened the wrong way around: it stays
            // an error to use it.
            ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

void flush_standard_output() {
    if (std::fflush(stdout) != 0)
        throw std::system_error(errno, std::generic_category(), "standard output");
    if (std::ferror(stdout) != 0)
        throw std::system_error(EIO, std::generic_category(), "standard output");
}

}  // namespace pangolin
