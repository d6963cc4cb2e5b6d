#include "loader/process_table.h"

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "loader/base/number.h"
#include "loader/files.h"
#include "loader/process_access.h"

namespace pangolin {
namespace {

struct CloseFolder {
    void operator()(DIR* folder) const { closedir(folder); }
};

}  // namespace

std::vector<pid_t> list_processes() {
    std::vector<pid_t> processes;
    const std::unique_ptr<DIR, CloseFolder> folder(opendir(process_folder().c_str()));
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
    return process_folder() + "/" + std::to_string(pid) + "/" + name;
}

std::string link_of_process(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

std::optional<ProcessLink> parse_process_link(std::string_view path) {
    constexpr std::string_view prefix = "/proc/";
    if (!path.starts_with(prefix))
        return std::nullopt;
    path.remove_prefix(prefix.size());
    const auto end = path.find('/');
    const auto pid = parse_number<pid_t>(path.substr(0, end));
    if (end == std::string_view::npos || !pid || *pid <= 0)
        return std::nullopt;
    return ProcessLink{*pid, std::string(path.substr(end + 1))};
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
