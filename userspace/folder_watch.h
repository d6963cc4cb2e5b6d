// Waits for changes in a folder.
#pragma once

#include <chrono>
#include <string>

#include "loader/base/unique_fd.h"

namespace pangolin {

// inotify tells of changes at once; where it does not (network file systems, a folder that comes later) or
// cannot be had, waiting takes its whole time. One thread watches and waits; any may wake it.
class FolderWatch {
  public:
    // The folder of this file.
    explicit FolderWatch(const std::string& file);

    // Before a look at the file. A watch lasts as long as the folder does: false while there is none.
    bool renew();
    // Until something happens in the folder, wake() is called or the time is over; then for as long as
    // `settling`, because what comes at once belongs together.
    void wait(std::chrono::milliseconds time, std::chrono::milliseconds settling);
    // This wait, or the next, and all that follow end at once.
    void wake();

  private:
    std::string folder_;
    UniqueFd inotify_;
    UniqueFd wake_;
    int watch_ = -1;
};

}  // namespace pangolin
