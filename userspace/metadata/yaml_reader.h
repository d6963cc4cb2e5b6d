// Reading YAML that people wrote, so that every mistake is reported the same way:
// "FILE:LINE:COLUMN: what (HINT: what to do)".
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "loader/base/error.h"
#include "userspace/metadata/text.h"

namespace pangolin {

// What is wrong with one file. Readers go on after a problem, so that the one reported is the
// nearest to the file's beginning, whatever the order in which keys are read.
class YamlProblems {
  public:
    explicit YamlProblems(std::string file) : file_(std::move(file)) {}
    void add(const YAML::Mark& mark, std::string_view what, std::string hint);
    // Something that should be there. Reported only when nothing else is wrong, because the cause is mostly a
    // misspelt key beside it.
    void add_missing(const YAML::Mark& mark, std::string_view what, std::string hint);
    // The first problem of the file, or success when there is none.
    Result<void> result() const;

  private:
    // Whether something is missing, line and column from 0: the least is reported.
    using Rank = std::tuple<bool, int, int>;
    void add(Rank rank, std::string_view what, std::string hint);

    std::string file_;
    std::optional<Rank> rank_;
    Error first_;
};

// A whole small file as text. Directories and files beyond `yaml_size_limit` are errors.
inline constexpr std::size_t yaml_size_limit = std::size_t{16} << 20;
Result<std::string> read_text_file(const std::string& path);

// The first document of `text`; `file` names it in errors. Empty text is a null node.
Result<YAML::Node> parse_yaml(const std::string& text, const std::string& file);

// A word and what it means, for YamlMapping::choice().
template <class T>
using YamlChoice = std::pair<std::string_view, T>;

// One mapping of a file, read key by key. Every accessor takes a key (a literal: it is kept), leaves its
// `value` as it is when the key is absent, null or wrong, and reports the latter. finish() then reports
// keys that no accessor asked for.
class YamlMapping {
  public:
    // `name` says where this is ("metrics.limits"); empty for the file itself. A null node is an empty
    // mapping.
    YamlMapping(const YAML::Node& node, std::string name, YamlProblems& problems);
    YamlMapping(const YamlMapping&) = default;
    // Assigning to a YAML::Node changes the document.
    YamlMapping& operator=(const YamlMapping&) = delete;
    ~YamlMapping() = default;

    // True when the key is there, with a value or without.
    bool contains(std::string_view key) const;
    // True when there is no key at all.
    bool empty() const { return !node_.IsMap() || node_.size() == 0; }
    // The keys, for a mapping whose keys are names that the operator gives. They must outlive this object
    // where they are passed to its accessors.
    std::vector<std::string> keys() const;
    // True when the key is there and not null.
    bool has(std::string_view key);
    // Reports the absence of the key.
    void require(std::string_view key, std::string hint);

    void text(std::string_view key, std::string& value);
    // One text or a list of texts.
    void texts(std::string_view key, std::vector<std::string>& values);
    void boolean(std::string_view key, bool& value);

    template <class Integer>
    void integer(std::string_view key, Integer& value, std::int64_t least, std::int64_t greatest) {
        std::int64_t number = 0;
        if (read_integer(key, number, least, greatest))
            value = static_cast<Integer>(number);
    }

    template <class T>
    void choice(std::string_view key, T& value, std::span<const YamlChoice<T>> choices) {
        std::vector<std::string_view> words;
        for (const auto& [word, meaning] : choices)
            words.push_back(word);
        if (const std::size_t found = read_choice(key, words); found < choices.size())
            value = choices[found].second;
    }

    // `parse` is Result<T>(std::string_view); its error is reported at the value's place.
    template <class T, class Parse>
    void parsed(std::string_view key, T& value, Parse parse) {
        std::string text_value;
        if (!read_text(key, text_value))
            return;
        auto result = parse(std::string_view(text_value));
        if (result)
            value = std::move(*result);
        else
            problem(key, result.error().what, result.error().hint);
    }

    // The mapping below `key`; an empty one when it is absent.
    YamlMapping mapping(std::string_view key);
    // The mappings in the list below `key`.
    std::vector<YamlMapping> mappings(std::string_view key);

    // Reports something about the value of `key`, as "NAME.KEY: what", at its place (of this mapping when
    // absent).
    void problem(std::string_view key, std::string_view what, std::string hint);
    // As problem(), for element `index` of the list below `key`.
    void problem_at(std::string_view key, std::size_t index, std::string_view what, std::string hint);

    // Reports unknown keys and keys written twice.
    void finish();
    // The line on which this mapping begins, counted from 1.
    int line() const { return node_.Mark().line + 1; }
    const std::string& name() const { return name_; }

  private:
    YAML::Node find(std::string_view key);
    YAML::Mark place(std::string_view key);
    std::string path(std::string_view key) const;
    void expected(std::string_view key, const YAML::Node& found, std::string_view what,
                  std::string hint = {});
    bool read_text(std::string_view key, std::string& value);
    bool read_integer(std::string_view key, std::int64_t& value, std::int64_t least, std::int64_t greatest);
    std::size_t read_choice(std::string_view key, std::span<const std::string_view> words);

    YAML::Node node_;
    std::string name_;
    YamlProblems* problems_;
    std::vector<std::string_view> known_;
};

}  // namespace pangolin
