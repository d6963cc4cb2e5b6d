// A database of Pangolin's, whichever program keeps it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "loader/base/error.h"

namespace pangolin {

enum class DatabaseKind : std::uint8_t { sqlite, postgres };

// The current row of a query; valid during the callback only.
class DatabaseRow {
  public:
    DatabaseRow() = default;
    DatabaseRow(const DatabaseRow&) = delete;
    DatabaseRow& operator=(const DatabaseRow&) = delete;
    virtual ~DatabaseRow() = default;
    // None for NULL. Other types are converted.
    virtual std::optional<std::string> text(int column) const = 0;
    // A boolean is 0 or 1. What is no number is none or 0.
    virtual std::optional<std::int64_t> integer(int column) const = 0;
};

// A connection that reads. Between queries it holds no lock and no transaction. One thread at a time.
class Database {
  public:
    virtual ~Database() = default;
    virtual DatabaseKind kind() const = 0;
    // Runs one statement, which takes at most one integer parameter, written $1. Rows must only be copied in
    // `on_row`: the database may be locked meanwhile. After an error the connection is best thrown away.
    virtual Result<void> query(const std::string& sql, std::optional<std::int64_t> parameter,
                               const std::function<void(const DatabaseRow&)>& on_row) = 0;

  protected:
    Database() = default;
    Database(const Database&) = default;
    Database(Database&&) = default;
    Database& operator=(const Database&) = default;
    Database& operator=(Database&&) = default;
};

}  // namespace pangolin
