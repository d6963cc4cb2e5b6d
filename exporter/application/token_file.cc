#include "exporter/application/token_file.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iterator>

namespace pangolin {

namespace {

constexpr std::string_view scheme = "bearer ";
// What a token may consist of ends here; a file of gigabytes is a mistake.
constexpr std::size_t longest = 4096;

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view spaces = " \t\r\n";
    const std::size_t begin = text.find_first_not_of(spaces);
    return begin == std::string_view::npos ? ""
                                           : text.substr(begin, text.find_last_not_of(spaces) - begin + 1);
}

}  // namespace

Result<void> TokenFile::read() {
    const char* const hint = "metrics.application.otlp.token_file must name a file with one token in it.";
    const auto now = FileSignature::of(path_);
    if (!now)
        return system_failure(errno, path_, hint);
    if (!token_.empty() && *now == seen_)
        return {};
    token_.clear();
    std::ifstream file(path_, std::ios::binary);
    std::string text(longest + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!file.is_open() || file.bad())
        return failure(path_ + " cannot be read", hint);
    text.resize(static_cast<std::size_t>(file.gcount()));
    const std::string_view token = trimmed(text);
    if (token.empty() || text.size() > longest)
        return failure(path_ + " holds no token", hint);
    token_ = token;
    seen_ = *now;
    return {};
}

Result<bool> TokenFile::allows(std::string_view authorization) {
    if (const Result<void> known = read(); !known)
        return std::unexpected(known.error());
    if (authorization.size() < scheme.size() ||
        !std::ranges::equal(authorization.substr(0, scheme.size()), scheme,
                            [](unsigned char a, char b) { return std::tolower(a) == b; }))
        return false;
    return equals_secret(trimmed(authorization.substr(scheme.size())), token_);
}

bool equals_secret(std::string_view given, std::string_view secret) {
    if (secret.empty())
        return false;
    // volatile: not to be cut short where the first difference is found.
    volatile unsigned char difference = given.size() == secret.size() ? 0 : 1;
    for (std::size_t i = 0; i < given.size(); ++i)
        difference = difference | static_cast<unsigned char>(given[i] ^ secret[i % secret.size()]);
    return difference == 0;
}

}  // namespace pangolin
