#include "tests/support/program_run.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

namespace pangolin::test {

Result<ProgramRunResult> run_program(int program_fd, std::span<const std::uint8_t> frame,
                                     const ProgramRun& run) {
    __sk_buff context{};
    context.gso_size = run.gso_size;
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<std::uint32_t>(frame.size());
    options.repeat = static_cast<int>(run.repeat);
    if (run.gso_size != 0) {
        options.ctx_in = &context;
        options.ctx_size_in = sizeof context;
    }
    if (const int error = bpf_prog_test_run_opts(program_fd, &options); error != 0)
        return system_failure(-error, "BPF_PROG_RUN");
    return ProgramRunResult{options.retval, options.duration};
}

}  // namespace pangolin::test
