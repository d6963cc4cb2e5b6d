#include "userspace/host/sqlite_connections.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/pangolin_database.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

TEST(SqliteConnections, AreOpenFilesAndLocksOfTheProcess) {
    const ScratchFolder folder;
    const std::string path = folder.path("db.sqlite");
    EXPECT_FALSE(sqlite_connections(::getpid(), path));
    DatabaseWriter first(path);
    first.must("CREATE TABLE t (x)");
    const auto counts = [&](pid_t process) {
        const auto found = sqlite_connections(process, path);
        return found ? std::to_string(found->active) + " " + std::to_string(found->idle) : "none";
    };
    EXPECT_EQ(counts(::getpid()), "0 1");
    EXPECT_EQ(counts(::getppid()), "0 0");
    EXPECT_EQ(counts(0x7ffffff), "none");
    {
        DatabaseWriter second(path);
        second.must("BEGIN IMMEDIATE");
        EXPECT_EQ(counts(::getpid()), "1 1");
        second.must("COMMIT");
        EXPECT_EQ(counts(::getpid()), "0 2");
    }
    EXPECT_EQ(counts(::getpid()), "0 1");
}

}  // namespace
}  // namespace pangolin
