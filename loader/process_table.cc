#include "loader/process_table.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

#include "loader/base/unique_fd.h"

namespace pangolin {
namespace {

struct CloseFolder {
    void operator()(DIR* folder) const { closedir(folder); }
};

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

}  // namespace

std::vector<pid_t> list_processes() {
    std::vector<pid_t> processes;
    const std::unique_ptr<DIR, CloseFolder> folder(opendir("/proc"));
    if (!folder)
        return processes;
    while (const dirent* entry = readdir(folder.get())) {
        if (const auto pid = parse_number<pid_t>(entry->d_name))
            processes.push_back(*pid);
    }
    std::ranges::sort(processes);
    return processes;
}

std::string process_path(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

std::string read_small_file(const std::string& path, std::size_t limit) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    std::string content;
    if (!fd)
        return content;
    while (content.size() < limit) {
        const std::size_t used = content.size();
        content.resize(std::min(limit, used + 4096));
        const ssize_t count = read(fd.get(), content.data() + used, content.size() - used);
        content.resize(used + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count <= 0)
            break;
    }
    return content;
}

std::string process_name(pid_t pid) {
    std::string name = read_small_file(process_path(pid, "comm"), 64);
    if (!name.empty() && name.back() == '\n')
        name.pop_back();
    return name;
}

std::optional<std::uint64_t> process_start_time(pid_t pid) {
    const std::string content = read_small_file(process_path(pid, "stat"), 4096);
    // The program's name, in parentheses, may hold blanks and parentheses itself.
    const auto name_end = content.rfind(')');
    if (name_end == std::string::npos)
        return std::nullopt;
    std::string_view fields = std::string_view(content).substr(name_end + 1);
    // Behind the name comes field 3; the start time is field 22 (proc(5)).
    for (int field = 2; field < 22; ++field) {
        const auto blank = fields.find(' ');
        if (blank == std::string_view::npos)
            return std::nullopt;
        fields.remove_prefix(blank + 1);
    }
    return parse_number<std::uint64_t>(fields.substr(0, fields.find(' ')));
}

}  // namespace pangolin
