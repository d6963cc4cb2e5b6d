#include "loader/kernel_btf.h"

#include <bpf/btf.h>

#include <cerrno>

#include "loader/bpf_error.h"

namespace pangolin {

void KernelBtf::Deleter::operator()(btf* types) const {
    btf__free(types);
}

Result<KernelBtf> KernelBtf::load() {
    collect_libbpf_messages();
    KernelBtf kernel;
    kernel.types_.reset(btf__load_vmlinux_btf());
    if (!kernel.types_)
        return system_failure(errno, "cannot read the kernel's BTF",
                              "The kernel must be built with CONFIG_DEBUG_INFO_BTF.");
    return kernel;
}

Result<KernelBtf> KernelBtf::load_with_module(const std::string& name) {
    auto kernel = load();
    if (!kernel)
        return kernel;
    kernel->base_ = std::move(kernel->types_);
    kernel->types_.reset(btf__load_module_btf(name.c_str(), kernel->base_.get()));
    if (!kernel->types_)
        return system_failure(errno, "cannot read the BTF of the kernel's module " + name);
    return kernel;
}

std::size_t KernelBtf::tracepoint_arguments(const std::string& tracepoint) const {
    // typedef void (*btf_trace_NAME)(void *, ARGUMENTS), from __DEFINE_EVENT in include/trace/bpf_probe.h.
    const std::string name = "btf_trace_" + tracepoint;
    const int id = btf__find_by_name_kind(types_.get(), name.c_str(), BTF_KIND_TYPEDEF);
    if (id <= 0)
        return 0;
    const btf_type* type = btf__type_by_id(types_.get(), static_cast<std::uint32_t>(id));
    while (type != nullptr && (btf_is_typedef(type) || btf_is_ptr(type)))
        type = btf__type_by_id(types_.get(), type->type);
    return type != nullptr && btf_is_func_proto(type) && btf_vlen(type) > 0 ? btf_vlen(type) - 1U : 0;
}

bool KernelBtf::has_function(const std::string& name) const {
    return btf__find_by_name_kind(types_.get(), name.c_str(), BTF_KIND_FUNC) > 0;
}

std::vector<std::pair<std::string, std::uint32_t>> KernelBtf::enumerators(const std::string& name) const {
    std::vector<std::pair<std::string, std::uint32_t>> result;
    const int id = btf__find_by_name_kind(types_.get(), name.c_str(), BTF_KIND_ENUM);
    if (id <= 0)
        return result;
    const btf_type* type = btf__type_by_id(types_.get(), static_cast<std::uint32_t>(id));
    for (std::uint32_t i = 0; i < btf_vlen(type); ++i) {
        const struct btf_enum& one = btf_enum(type)[i];
        const char* const text = btf__name_by_offset(types_.get(), one.name_off);
        result.emplace_back(text == nullptr ? "" : text, static_cast<std::uint32_t>(one.val));
    }
    return result;
}

}  // namespace pangolin
