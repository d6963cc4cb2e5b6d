// Standard input, output and error, as they may be when the program starts and ends.
#pragma once

namespace pangolin {

// Puts something in the place of each of the three that is closed, so that no file or socket of ours gets its
// number and is written to by mistake. Writing to what was closed fails still.
void open_standard_streams();

// Throws std::system_error when something that was printed could not be written, as fmt::print() does.
void flush_standard_output();

}  // namespace pangolin
