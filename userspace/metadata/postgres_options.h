// How to reach Pangolin's PostgreSQL database.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

struct PostgresOptions {
    // libpq's keywords and values, our own among them. Secret: one of the values is the password.
    std::vector<std::pair<std::string, std::string>> parameters;
    // For messages: "PostgreSQL database pangolin on postgres:5432".
    std::string name;
};

// From a connection string as Pangolin (node-postgres) or libpq take it: a URI or "key=value ...". Parameters
// of a URI that only node-postgres knows are translated (ssl, sslmode=no-verify) or left out. The session is
// made read-only and impatient. Errors show nothing of the string.
Result<PostgresOptions> parse_postgres_options(const std::string& connection_string);

}  // namespace pangolin
