#include "userspace/folder_watch.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>

namespace pangolin {

FolderWatch::FolderWatch(const std::string& file)
    : folder_(std::filesystem::absolute(file).parent_path()),
      inotify_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)),
      wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

// Anything in it may be a step of a change; what it was is not asked, because a look costs one stat().
bool FolderWatch::renew() {
    constexpr std::uint32_t changes = IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_TO |
                                      IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
    const int watch = ::inotify_add_watch(inotify_.get(), folder_.c_str(), changes | IN_ONLYDIR);
    if (watch_ >= 0 && watch != watch_)
        ::inotify_rm_watch(inotify_.get(), watch_);
    watch_ = watch;
    return watch_ >= 0;
}

void FolderWatch::wait(std::chrono::milliseconds time, std::chrono::milliseconds settling) {
    std::array<pollfd, 2> both{{{.fd = inotify_.get(), .events = POLLIN, .revents = 0},
                                {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
    if (::poll(both.data(), both.size(), static_cast<int>(time.count())) <= 0 || both[1].revents != 0)
        return;
    ::poll(&both[1], 1, static_cast<int>(settling.count()));
    std::array<char, 4096> events{};
    while (::read(inotify_.get(), events.data(), events.size()) > 0) {
    }
}

void FolderWatch::wake() {
    const std::uint64_t one = 1;
    if (wake_ && ::write(wake_.get(), &one, sizeof one) < 0)
        spdlog::debug("cannot wake the watcher of {}", folder_);
}

}  // namespace pangolin
