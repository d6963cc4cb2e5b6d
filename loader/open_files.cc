#include "loader/open_files.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "bpf/shared/open_file.h"
#include "loader/base/unique_fd.h"
#include "loader/bpf_error.h"
#include "loader/bpf_handles.h"
#include "loader/process_table.h"
#include "open_files.skel.h"

namespace pangolin {
namespace {

OpenFile from_kernel(const open_file& file) {
    constexpr unsigned minor_bits = 20;  // MINORBITS in include/linux/kdev_t.h
    return {.device = ::makedev(file.device >> minor_bits, file.device & ((1U << minor_bits) - 1)),
            .inode = file.inode,
            .mode = file.mode};
}

class OpenFileProgram {
  public:
    static Result<OpenFileProgram> load() {
        collect_libbpf_messages();
        OpenFileProgram program;
        program.skeleton_.reset(open_files_bpf__open_and_load());
        if (!program.skeleton_)
            return bpf_failure(errno, "cannot load the BPF program that lists open files");
        if (const int error = open_files_bpf__attach(program.skeleton_.get()); error != 0)
            return bpf_failure(-error, "cannot attach the BPF program that lists open files");
        return program;
    }

    std::vector<OpenFile> list(pid_t pid) {
        std::vector<OpenFile> files;
        skeleton_->bss->process = pid;
        const UniqueFd iterator(bpf_iter_create(bpf_link__fd(skeleton_->links.list_open_files)));
        if (!iterator)
            return files;
        std::array<open_file, 256> page{};
        ssize_t size = 0;
        do {
            // The kernel hands over whole entries.
            size = ::read(iterator.get(), page.data(), sizeof page);
            for (std::size_t i = 0; size > 0 && i < static_cast<std::size_t>(size) / sizeof page[0]; ++i)
                files.push_back(from_kernel(page.at(i)));
        } while (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR)));
        return files;
    }

  private:
    OpenFileProgram() = default;

    BpfSkeleton<open_files_bpf> skeleton_;
};

std::vector<OpenFile> list_by_program(pid_t pid) {
    static std::mutex mutex;
    static std::optional<Result<OpenFileProgram>> program;
    const std::lock_guard lock(mutex);
    if (!program) {
        program.emplace(OpenFileProgram::load());
        if (!*program)
            spdlog::info("what other users' processes have open is not seen: {}", program->error().message());
    }
    return *program ? (*program)->list(pid) : std::vector<OpenFile>();
}

struct CloseFolder {
    void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

std::vector<OpenFile> open_files(pid_t pid) {
    const std::unique_ptr<DIR, CloseFolder> folder(::opendir(process_path(pid, "fd").c_str()));
    if (!folder)
        return errno == EACCES ? list_by_program(pid) : std::vector<OpenFile>();
    std::vector<OpenFile> files;
    const int descriptor = ::dirfd(folder.get());
    if (descriptor < 0)
        return files;
    while (const dirent* const entry = ::readdir(folder.get())) {
        struct stat status{};
        if (entry->d_name[0] != '.' && ::fstatat(descriptor, entry->d_name, &status, 0) == 0)
            files.push_back({.device = status.st_dev, .inode = status.st_ino, .mode = status.st_mode});
    }
    return files;
}

std::set<ino_t> open_sockets(pid_t pid) {
    std::set<ino_t> sockets;
    for (const OpenFile& file : open_files(pid))
        if (S_ISSOCK(file.mode))
            sockets.insert(file.inode);
    return sockets;
}

}  // namespace pangolin
