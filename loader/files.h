// Small files and folders that other programs may change or remove while they are looked at.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace pangolin {

// The first `limit` bytes of a file; empty when it cannot be read.
std::string read_small_file(const std::string& path, std::size_t limit = 1 << 16);

// What tells one content of a file from another without reading it.
struct FileSignature {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    std::chrono::nanoseconds modified{};
    std::chrono::nanoseconds changed{};

    static FileSignature of(const struct stat& status);
    // None when there is no such file, or it may not be looked at; errno says why.
    static std::optional<FileSignature> of(const std::string& path);

    bool operator==(const FileSignature&) const = default;
};

// The names in a folder, sorted; none when it cannot be read.
std::vector<std::string> names_in_folder(const std::string& folder);

}  // namespace pangolin
