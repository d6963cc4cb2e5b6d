// A folder of the BPF filesystem: objects that outlive the process that made them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"

namespace pangolin {

// A path, and nothing that is held open: several may name one folder. Names in it have no dots, which the
// filesystem keeps for itself (bpf_lookup in kernel/bpf/inode.c).
class PinFolder {
  public:
    explicit PinFolder(std::string path) : path_(std::move(path)) {}

    const std::string& path() const { return path_; }
    PinFolder below(std::string_view name) const { return PinFolder(path_ + "/" + std::string(name)); }
    bool exists() const;
    // With the folders above it; one that exists is no error.
    Result<void> create() const;
    // What is in it, in order; empty when it is not there.
    std::vector<std::string> entries() const;

    // Keeps the map, program or link under `name` (dots become underscores) until it is removed. What had the
    // name before is not kept any more.
    Result<void> pin(int fd, std::string_view name) const;
    // Empty when there is none of that name.
    UniqueFd open(std::string_view name) const;
    std::string path_of(std::string_view name) const;

    void remove(std::string_view name) const;
    // With all that is in it, and the folder above when nothing else is in that.
    void remove() const;

  private:
    std::string path_;
};

}  // namespace pangolin
