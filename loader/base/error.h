// Errors that cross a folder's boundary.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace pangolin {

// What went wrong and where, as one line for the operator, with what to do about it.
// `what` names the thing (file and line, interface, map); `hint` is a full sentence or empty.
struct Error {
    std::string what;
    std::string hint;
    // errno of the failed call, 0 where there is none; lets a caller tell ENODEV from EPERM.
    int code = 0;

    // "what (HINT: hint)"
    std::string message() const { return hint.empty() ? what : what + " (HINT: " + hint + ")"; }
};

// std::expected rather than exceptions: every failure here is something that the caller decides on
// (keep running with a source down, retry, or end with an exit code).
template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> failure(std::string what, std::string hint = {}, int code = 0) {
    return std::unexpected(Error{std::move(what), std::move(hint), code});
}

// As failure(), with ": <strerror(code)>" appended to `what`.
std::unexpected<Error> system_failure(int code, std::string_view what, std::string hint = {});

}  // namespace pangolin
