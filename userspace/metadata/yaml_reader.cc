#include "userspace/metadata/yaml_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "loader/base/number.h"
#include "loader/base/unique_fd.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

constexpr std::string_view not_text = "contains a NUL or bytes that are not UTF-8";
constexpr const char* not_text_hint = "Save the file as UTF-8.";

std::string describe(const YAML::Node& node) {
    switch (node.Type()) {
        case YAML::NodeType::Scalar:
            return in_quotes(node.Scalar());
        case YAML::NodeType::Sequence:
            return "a list";
        case YAML::NodeType::Map:
            return "a mapping";
        default:
            return "nothing";
    }
}

std::string read_hint(int code) {
    switch (code) {
        case ENOENT:
        case ENOTDIR:
            return "Check the path.";
        case EACCES:
            return "Run as root or let this user read the file and its folders.";
        default:
            return "Check the path and the disk.";
    }
}

}  // namespace

void YamlProblems::add(const YAML::Mark& mark, std::string_view what, std::string hint) {
    add(Rank{false, std::max(mark.line, 0), std::max(mark.column, 0)}, what, std::move(hint));
}

void YamlProblems::add_missing(const YAML::Mark& mark, std::string_view what, std::string hint) {
    add(Rank{true, std::max(mark.line, 0), std::max(mark.column, 0)}, what, std::move(hint));
}

void YamlProblems::add(Rank rank, std::string_view what, std::string hint) {
    if (rank_ && *rank_ <= rank)
        return;
    rank_ = rank;
    first_ = {fmt::format("{}:{}:{}: {}", file_, std::get<1>(rank) + 1, std::get<2>(rank) + 1, what),
              std::move(hint), 0};
}

Result<void> YamlProblems::result() const {
    if (rank_)
        return std::unexpected(first_);
    return {};
}

Result<std::string> read_text_file(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file)
        return system_failure(errno, "cannot open " + path, read_hint(errno));
    std::string text;
    std::array<char, 65536> buffer{};
    for (;;) {
        const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return system_failure(errno, "cannot read " + path, read_hint(errno));
        if (count == 0)
            return text;
        text.append(buffer.data(), static_cast<std::size_t>(count));
        if (text.size() > yaml_size_limit)
            return failure(fmt::format("{} is larger than {} MiB", path, yaml_size_limit >> 20),
                           "Check that the path names a YAML file.", EFBIG);
    }
}

Result<YAML::Node> parse_yaml(const std::string& text, const std::string& file) {
    try {
        return YAML::Load(text);
    } catch (const YAML::Exception& error) {
        YamlProblems problems(file);
        problems.add(error.mark, "not valid YAML: " + error.msg,
                     "Check the indentation, colons and quotes on this line and the one before it.");
        return std::unexpected(problems.result().error());
    } catch (const std::exception& error) {
        return failure(fmt::format("{}: not valid YAML: {}", file, error.what()),
                       "Check the file's contents.");
    }
}

YamlMapping::YamlMapping(const YAML::Node& node, std::string name, YamlProblems& problems)
    : node_(node), name_(std::move(name)), problems_(&problems) {
    if (node_.IsMap() || !node_.IsDefined() || node_.IsNull())
        return;
    problems_->add(node_.Mark(),
                   fmt::format("{}expected keys and values, found {}", name_.empty() ? "" : name_ + ": ",
                               describe(node_)),
                   "Write 'key: value' lines, indented alike.");
    // Assigning to a YAML::Node would change the document itself.
    node_.reset();
}

std::string YamlMapping::path(std::string_view key) const {
    return name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
}

YAML::Node YamlMapping::find(std::string_view key) {
    if (std::ranges::find(known_, key) == known_.end())
        known_.push_back(key);
    if (node_.IsMap())
        for (const auto& entry : node_)
            if (entry.first.IsScalar() && entry.first.Scalar() == key)
                return entry.second;
    return {};
}

YAML::Mark YamlMapping::place(std::string_view key) {
    if (node_.IsMap())
        for (const auto& entry : node_)
            if (entry.first.IsScalar() && entry.first.Scalar() == key)
                return entry.second.IsNull() ? entry.first.Mark() : entry.second.Mark();
    return node_.Mark();
}

bool YamlMapping::contains(std::string_view key) const {
    if (node_.IsMap())
        for (const auto& entry : node_)
            if (entry.first.IsScalar() && entry.first.Scalar() == key)
                return true;
    return false;
}

std::vector<std::string> YamlMapping::keys() const {
    std::vector<std::string> keys;
    if (node_.IsMap())
        for (const auto& entry : node_)
            if (entry.first.IsScalar())
                keys.push_back(entry.first.Scalar());
    return keys;
}

bool YamlMapping::has(std::string_view key) {
    return !find(key).IsNull();
}

void YamlMapping::require(std::string_view key, std::string hint) {
    if (!has(key))
        problems_->add_missing(place(key),
                               fmt::format("{}'{}' is missing", name_.empty() ? "" : name_ + ": ", key),
                               std::move(hint));
}

void YamlMapping::problem(std::string_view key, std::string_view what, std::string hint) {
    problems_->add(place(key), fmt::format("{}: {}", path(key), what), std::move(hint));
}

void YamlMapping::problem_at(std::string_view key, std::size_t index, std::string_view what,
                             std::string hint) {
    const YAML::Node list = find(key);
    const bool inside = list.IsSequence() && index < list.size();
    problems_->add(inside ? list[index].Mark() : place(key), fmt::format("{}: {}", path(key), what),
                   std::move(hint));
}

void YamlMapping::expected(std::string_view key, const YAML::Node& found, std::string_view what,
                           std::string hint) {
    problem(key, fmt::format("expected {}, found {}", what, describe(found)), std::move(hint));
}

bool YamlMapping::read_text(std::string_view key, std::string& value) {
    const YAML::Node found = find(key);
    if (found.IsNull())
        return false;
    if (!found.IsScalar()) {
        expected(key, found, "a text", fmt::format("Write '{}: VALUE' on one line.", key));
        return false;
    }
    if (!is_utf8(found.Scalar())) {
        problem(key, not_text, not_text_hint);
        return false;
    }
    value = found.Scalar();
    return true;
}

void YamlMapping::text(std::string_view key, std::string& value) {
    read_text(key, value);
}

void YamlMapping::texts(std::string_view key, std::vector<std::string>& values) {
    const YAML::Node found = find(key);
    if (found.IsScalar()) {
        std::string single;
        if (read_text(key, single))
            values = {std::move(single)};
        return;
    }
    if (found.IsNull())
        return;
    if (!found.IsSequence())
        return expected(key, found, "a text or a list of texts",
                        fmt::format("Write '{}: [ONE, OTHER]'.", key));
    std::vector<std::string> read;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const YAML::Node element = found[i];
        if (!element.IsScalar())
            return problem_at(key, i, "expected a list of texts, found " + describe(element) + " in it",
                              fmt::format("Write '{}: [ONE, OTHER]'.", key));
        if (!is_utf8(element.Scalar()))
            return problem_at(key, i, not_text, not_text_hint);
        read.push_back(element.Scalar());
    }
    values = std::move(read);
}

void YamlMapping::boolean(std::string_view key, bool& value) {
    static constexpr std::array<YamlChoice<bool>, 12> words{{{"true", true},
                                                             {"false", false},
                                                             {"True", true},
                                                             {"False", false},
                                                             {"TRUE", true},
                                                             {"FALSE", false},
                                                             {"yes", true},
                                                             {"no", false},
                                                             {"on", true},
                                                             {"off", false},
                                                             {"Yes", true},
                                                             {"No", false}}};
    const YAML::Node found = find(key);
    if (found.IsNull())
        return;
    if (found.IsScalar())
        for (const auto& [word, meaning] : words)
            if (found.Scalar() == word) {
                value = meaning;
                return;
            }
    expected(key, found, "true or false", "Write 'true' or 'false'.");
}

bool YamlMapping::read_integer(std::string_view key, std::int64_t& value, std::int64_t least,
                               std::int64_t greatest) {
    const YAML::Node found = find(key);
    if (found.IsNull())
        return false;
    if (found.IsScalar()) {
        const auto number = parse_number<std::int64_t>(found.Scalar());
        if (number && *number >= least && *number <= greatest) {
            value = *number;
            return true;
        }
    }
    expected(key, found, fmt::format("a whole number from {} to {}", least, greatest),
             fmt::format("Write decimal digits only, for example '{}: {}'.", key, least));
    return false;
}

std::size_t YamlMapping::read_choice(std::string_view key, std::span<const std::string_view> words) {
    const YAML::Node found = find(key);
    if (found.IsNull())
        return words.size();
    if (!found.IsScalar()) {
        expected(key, found, "a word", suggestion("", words, "values"));
        return words.size();
    }
    const auto position = std::ranges::find(words, std::string_view(found.Scalar()));
    if (position == words.end())
        problem(key, "unknown value " + in_quotes(found.Scalar()),
                suggestion(found.Scalar(), words, "values"));
    return static_cast<std::size_t>(position - words.begin());
}

YamlMapping YamlMapping::mapping(std::string_view key) {
    return {find(key), path(key), *problems_};
}

std::vector<YamlMapping> YamlMapping::mappings(std::string_view key) {
    std::vector<YamlMapping> result;
    const YAML::Node found = find(key);
    if (found.IsNull())
        return result;
    if (!found.IsSequence()) {
        expected(key, found, "a list", "Begin each entry with '- '.");
        return result;
    }
    std::size_t index = 0;
    for (const YAML::Node& element : found) {
        const std::string name = fmt::format("{}[{}]", path(key), index++);
        if (element.IsNull())
            problems_->add(element.Mark(), name + ": expected keys and values, found nothing",
                           "Remove the empty entry.");
        else
            result.emplace_back(element, name, *problems_);
    }
    return result;
}

void YamlMapping::finish() {
    if (!node_.IsMap())
        return;
    const std::string where = name_.empty() ? "" : " under " + name_;
    std::set<std::string_view> seen;
    for (const auto& entry : node_) {
        const YAML::Node& key = entry.first;
        if (!key.IsScalar()) {
            problems_->add(key.Mark(), fmt::format("a key{} is {}", where, describe(key)),
                           "Keys are single words.");
            continue;
        }
        if (std::ranges::find(known_, std::string_view(key.Scalar())) == known_.end())
            problems_->add(key.Mark(), fmt::format("unknown key {}{}", in_quotes(key.Scalar()), where),
                           suggestion(key.Scalar(), known_, "keys"));
        else if (!seen.insert(key.Scalar()).second)
            problems_->add(key.Mark(), fmt::format("key '{}'{} is written twice", key.Scalar(), where),
                           "Keep one of the two.");
    }
}

}  // namespace pangolin
