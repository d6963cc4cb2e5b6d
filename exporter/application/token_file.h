// A bearer token that is kept in a file (RFC 6750).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "loader/files.h"

namespace pangolin {

// Reads the file again when it changes: an operator replaces a token without a restart. Not thread-safe.
class TokenFile {
  public:
    explicit TokenFile(std::string path) : path_(std::move(path)) {}

    // Whether the header Authorization carries the file's token. Fails, and nobody is let in, when there is
    // none to compare with.
    Result<bool> allows(std::string_view authorization);

    // Fails as allows() does.
    Result<void> read();

  private:
    std::string path_;
    FileSignature seen_;
    std::string token_;
};

// In a time that depends on the length of `given` alone.
bool equals_secret(std::string_view given, std::string_view secret);

}  // namespace pangolin
