// Reading a SQLite database that another program is writing to.
#pragma once

#include <sqlite3.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "userspace/metadata/database.h"

namespace pangolin {

// "file:///path" for sqlite3_open_v2 with SQLITE_OPEN_URI, read-only; any byte of the path is kept literally.
std::string sqlite_read_only_uri(const std::string& absolute_path);

// A read-only connection that stays open between queries and holds no lock between them. Its owner sees
// Pangolin's commits as soon as they are made. Errors name the file and say what to do; after one the
// connection is best thrown away. One thread at a time.
class SqliteConnection final : public Database {
  public:
    // Opens the file. Nothing is read, so a file that is no database is noticed by the first query.
    static Result<SqliteConnection> open(const std::string& path);

    DatabaseKind kind() const override { return DatabaseKind::sqlite; }

    // The statement is finalized before this returns, with which its lock is gone.
    Result<void> query(const std::string& sql, std::optional<std::int64_t> parameter,
                       const std::function<void(const DatabaseRow&)>& on_row) override;

    // False once `path` names another file than the one opened (replaced, restored from a backup, gone).
    bool is_current() const;

  private:
    struct Closer {
        void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
    };
    SqliteConnection(std::string path, std::unique_ptr<sqlite3, Closer> database, dev_t device, ino_t inode)
        : path_(std::move(path)), database_(std::move(database)), device_(device), inode_(inode) {}

    std::string path_;
    std::unique_ptr<sqlite3, Closer> database_;
    dev_t device_;
    ino_t inode_;
};

}  // namespace pangolin
