// A small Pangolin with one of everything, in any version's schema, and what is to be read from it.
#pragma once

#include <string>

#include "tests/support/pangolin_database.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// INSERT statements for empty tables.
std::string sample_rows(const PangolinSchema& schema);

// What a database of that version with these rows is.
SiteDirectory sample_directory(const PangolinSchema& schema);

}  // namespace pangolin
