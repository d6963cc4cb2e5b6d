// What else is read of Pangolin's database beside the directory.
#pragma once

#include "loader/base/error.h"
#include "userspace/metadata/database.h"
#include "userspace/metadata/schema.h"

namespace pangolin {

// A SiteSource that reads a database has it read after the directory, with the same connection: another one
// to a SQLite file would, whenever it is closed, drop the locks of the first (POSIX). Called from the thread
// that reads the directory.
class DatabaseReading {
  public:
    DatabaseReading() = default;
    DatabaseReading(const DatabaseReading&) = delete;
    DatabaseReading& operator=(const DatabaseReading&) = delete;
    virtual ~DatabaseReading() = default;
    // False when the connection is of no more use.
    virtual bool read(Database& database, const Schema& schema) = 0;
    // The database cannot be read; whoever calls logs why.
    virtual void unavailable(const Error& error) = 0;
};

}  // namespace pangolin
