// What the running kernel says of its own types: tells what a tracing program can expect of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loader/base/error.h"

struct btf;

namespace pangolin {

// The kernel's BTF (/sys/kernel/btf/vmlinux). Some megabytes of memory: let go of it soon.
class KernelBtf {
  public:
    static Result<KernelBtf> load();
    // With those of one of its modules (/sys/kernel/btf/NAME, Linux 5.11 and newer). ENOENT as the error's
    // code where it is not loaded, or has none.
    static Result<KernelBtf> load_with_module(const std::string& name);

    // Arguments of a tracepoint ("kfree_skb") as raw tracepoint programs get them; 0 when there is none.
    std::size_t tracepoint_arguments(const std::string& tracepoint) const;
    bool has_function(const std::string& name) const;
    // Names and values of an enum, in the kernel's order; empty when there is none.
    std::vector<std::pair<std::string, std::uint32_t>> enumerators(const std::string& name) const;

  private:
    struct Deleter {
        void operator()(btf* types) const;
    };
    // Of the kernel, while `types_` are those of a module as well, which refer to them.
    std::unique_ptr<btf, Deleter> base_;
    std::unique_ptr<btf, Deleter> types_;
};

}  // namespace pangolin
