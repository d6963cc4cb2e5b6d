// Small files and folders that other programs may change or remove while they are looked at.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace pangolin {

// The first `limit` bytes of a file; empty when it cannot be read.
std::string read_small_file(const std::string& path, std::size_t limit = 1 << 16);

// The names in a folder, sorted; none when it cannot be read.
std::vector<std::string> names_in_folder(const std::string& folder);

}  // namespace pangolin
