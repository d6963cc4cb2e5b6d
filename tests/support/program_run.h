// BPF_PROG_RUN: a packet through a loaded program, without an interface.
#pragma once

#include <cstdint>
#include <span>

#include "loader/base/error.h"

namespace pangolin::test {

struct ProgramRun {
    // How often the program runs on the packet.
    std::uint32_t repeat = 1;
    // As if the packet were a super-packet of segments of this size; 0 for a plain one.
    std::uint32_t gso_size = 0;
};

struct ProgramRunResult {
    std::uint32_t return_value = 0;
    // Nanoseconds a run, averaged over the repeats by the kernel.
    std::uint32_t duration_ns = 0;
};

Result<ProgramRunResult> run_program(int program_fd, std::span<const std::uint8_t> frame,
                                     const ProgramRun& run = {});

}  // namespace pangolin::test
