#include "userspace/metadata/sqlite_connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

#include "loader/base/unique_fd.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

// How long one query waits for a lock. Nobody waits for who waits, so this may be longer than Pangolin's own
// commits take on a slow disk.
constexpr auto lock_time_limit = std::chrono::milliseconds(1000);
// SQLite's own steps grow to 100 ms, in which a busy writer has taken the lock again many times.
constexpr auto lock_retry_interval = std::chrono::milliseconds(1);
// A query that takes longer, once it runs, is cut off: Pangolin cannot commit meanwhile.
constexpr auto query_time_limit = std::chrono::milliseconds(500);
constexpr int instructions_between_checks = 2000;

int wait_for_lock(void*, int tries) {
    if (tries * lock_retry_interval > lock_time_limit)
        return 0;
    std::this_thread::sleep_for(lock_retry_interval);
    return 1;
}

// Cuts off the queries that run during its life.
class Deadline {
  public:
    explicit Deadline(sqlite3* database) : database_(database) {
        sqlite3_progress_handler(database_, instructions_between_checks, is_past, &end_);
    }
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { sqlite3_progress_handler(database_, 0, nullptr, nullptr); }

  private:
    // First called when the query has its lock.
    static int is_past(void* end) {
        auto& time = *static_cast<std::optional<Clock::time_point>*>(end);
        if (!time)
            time = Clock::now() + query_time_limit;
        return Clock::now() > *time ? 1 : 0;
    }

    sqlite3* database_;
    std::optional<Clock::time_point> end_;
};

struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

// Other types are converted by SQLite's rules.
class SqliteRow final : public DatabaseRow {
  public:
    explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}

    std::optional<std::string> text(int column) const override {
        if (sqlite3_column_type(statement_, column) == SQLITE_NULL)
            return std::nullopt;
        const unsigned char* characters = sqlite3_column_text(statement_, column);
        const int size = sqlite3_column_bytes(statement_, column);
        if (characters == nullptr)
            return std::nullopt;
        return std::string(characters, characters + size);
    }

    std::optional<std::int64_t> integer(int column) const override {
        if (sqlite3_column_type(statement_, column) == SQLITE_NULL)
            return std::nullopt;
        return sqlite3_column_int64(statement_, column);
    }

  private:
    sqlite3_stmt* statement_;
};

// What each failure of SQLite means for the operator of this exporter.
std::string hint_for(int result) {
    switch (result & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return "Another program holds a long write lock. The exporter tries again; if this stays, look "
                   "for a backup or an administration tool that has the database open.";
        case SQLITE_NOTADB:
            return "The file is not a SQLite database (or is encrypted). Check metrics.metadata.sqlite.";
        case SQLITE_CORRUPT:
            return "Stop Pangolin, run 'sqlite3 FILE \"PRAGMA integrity_check\"' and restore a backup.";
        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
            return "Pangolin may have been killed in the middle of a write: start it, it repairs the "
                   "database. Otherwise let this user read the file and its folder.";
        case SQLITE_INTERRUPT:
            return "The exporter stops long reads so that Pangolin need not wait. Look for a slow or "
                   "overloaded disk.";
        case SQLITE_IOERR:
            return "Check the disk and the file system (network file systems lack the locks that SQLite "
                   "needs).";
        default:
            return "Check that the file is the database of a supported Pangolin.";
    }
}

Error database_error(sqlite3* database, const std::string& path, int result) {
    const std::string why =
        (result & 0xff) == SQLITE_INTERRUPT ? "reading took too long" : sqlite3_errmsg(database);
    const int code = (result & 0xff) == SQLITE_BUSY ? EBUSY : sqlite3_system_errno(database);
    return {fmt::format("cannot read {}: {}", path, why), hint_for(result), code};
}

std::string open_hint(int code) {
    switch (code) {
        case ENOENT:
        case ENOTDIR:
            return "Set metrics.metadata.sqlite to Pangolin's db.sqlite, or metrics.metadata.sites_file to a "
                   "sites.yml.";
        case EACCES:
        case EPERM:
            return "Run as root or let this user read the file and its folders.";
        default:
            return "Check the path and the disk.";
    }
}

Error unusable(const std::string& path, std::string_view why, std::string hint) {
    return {fmt::format("cannot read {}: {}", path, why), std::move(hint), 0};
}

// In WAL mode a reader that comes first creates FILE-wal and FILE-shm, and nobody is there to make use of its
// recovery. Only while Pangolin has the database open is reading free of side effects.
Result<void> check_journal(int file, const std::string& path) {
    std::array<unsigned char, 20> header{};
    constexpr std::size_t read_version = 19;
    constexpr unsigned char wal = 2;
    if (::pread(file, header.data(), header.size(), 0) != static_cast<ssize_t>(header.size()) ||
        header[read_version] != wal)
        return {};
    std::error_code ignored;
    const std::string real = std::filesystem::canonical(path, ignored).string();
    if (::access((real + "-shm").c_str(), F_OK) == 0)
        return {};
    return std::unexpected(
        unusable(path, "it is in WAL mode and nobody has it open (there is no -shm file beside it)",
                 "Start Pangolin; or mount the whole folder of the database, not the file alone."));
}

// Finds what SQLite would only call "unable to open database file", or hang on (a FIFO).
Result<struct stat> inspect(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0)
        return system_failure(errno, "cannot open " + path, open_hint(errno));
    if (S_ISDIR(status.st_mode))
        return std::unexpected(
            unusable(path, "it is a directory", "Name the file in it, as in .../db/db.sqlite."));
    if (!S_ISREG(status.st_mode))
        return std::unexpected(unusable(path, "it is not a regular file", "Name Pangolin's db.sqlite."));
    if (status.st_size == 0)
        return std::unexpected(
            unusable(path, "it is empty",
                     "Pangolin creates its tables at its first start: start it, or check the path."));
    constexpr off_t least_size = 512;
    if (status.st_size < least_size)
        return std::unexpected(
            unusable(path, "it is too short for a database", "Check metrics.metadata.sqlite."));
    // Closing any descriptor of a file drops this process's locks on it (POSIX), so this is done while
    // no connection of ours is open.
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        return system_failure(errno, "cannot open " + path, open_hint(errno));
    if (auto journal = check_journal(file.get(), path); !journal)
        return std::unexpected(journal.error());
    return status;
}

}  // namespace

std::string sqlite_read_only_uri(const std::string& absolute_path) {
    constexpr std::string_view literal =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-~";
    std::string uri = "file://";
    for (const char character : absolute_path) {
        if (literal.find(character) != std::string_view::npos)
            uri += character;
        else
            uri += fmt::format("%{:02X}", static_cast<unsigned char>(character));
    }
    return uri + "?mode=ro";
}

Result<SqliteConnection> SqliteConnection::open(const std::string& path) {
    const auto status = inspect(path);
    if (!status)
        return std::unexpected(status.error());
    std::error_code failed;
    const std::string absolute = std::filesystem::absolute(path, failed).string();
    sqlite3* handle = nullptr;
    const int result = sqlite3_open_v2(sqlite_read_only_uri(absolute).c_str(), &handle,
                                       SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
    std::unique_ptr<sqlite3, Closer> database(handle);
    if (result != SQLITE_OK)
        return std::unexpected(database ? database_error(database.get(), path, result)
                                        : unusable(path, "out of memory", "Free some memory."));
    sqlite3_extended_result_codes(database.get(), 1);
    sqlite3_busy_handler(database.get(), wait_for_lock, nullptr);
    // The schema is data of another program: it may not call functions, and "x" is never a string.
    sqlite3_db_config(database.get(), SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(database.get(), SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
    sqlite3_db_config(database.get(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    return SqliteConnection(path, std::move(database), status->st_dev, status->st_ino);
}

Result<void> SqliteConnection::query(const std::string& sql, std::optional<std::int64_t> parameter,
                                     const std::function<void(const DatabaseRow&)>& on_row) {
    const Deadline deadline(database_.get());
    sqlite3_stmt* handle = nullptr;
    int result =
        sqlite3_prepare_v2(database_.get(), sql.c_str(), static_cast<int>(sql.size()), &handle, nullptr);
    const std::unique_ptr<sqlite3_stmt, Finalizer> statement(handle);
    if (result == SQLITE_OK && parameter)
        result = sqlite3_bind_int64(statement.get(), 1, *parameter);
    if (result != SQLITE_OK)
        return std::unexpected(database_error(database_.get(), path_, result));
    const SqliteRow row(statement.get());
    while ((result = sqlite3_step(statement.get())) == SQLITE_ROW)
        on_row(row);
    if (result != SQLITE_DONE)
        return std::unexpected(database_error(database_.get(), path_, result));
    return {};
}

bool SqliteConnection::is_current() const {
    struct stat status{};
    return ::stat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

}  // namespace pangolin
