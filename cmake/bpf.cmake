# bpf_skeleton(NAME) turns NAME.bpf.c of the current folder into the target NAME_skeleton, whose
# header NAME.skel.h holds the compiled object. The object is built from UAPI headers and CO-RE
# relocations only, so that the machine that builds needs no BTF of the kernel that runs it.

find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf>=1.4)
find_program(BPF_CLANG NAMES clang-19 clang-20 clang-21 clang REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip-19 llvm-strip-20 llvm-strip-21 llvm-strip REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)

# <asm/types.h> lives in the multiarch folder, which the bpf target does not search by itself.
set(BPF_ARCHITECTURE_INCLUDE /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})

function(bpf_skeleton name)
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${name}.bpf.c)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
    set(header ${CMAKE_CURRENT_BINARY_DIR}/${name}.skel.h)
    add_custom_command(
        OUTPUT ${object}
        COMMAND ${BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -std=gnu17 -Wall -Wextra -Werror -Wno-unused-parameter
                -I${CMAKE_SOURCE_DIR} -idirafter ${BPF_ARCHITECTURE_INCLUDE}
                -MD -MF ${object}.d -c ${source} -o ${object}
        COMMAND ${BPF_STRIP} -g ${object}
        DEPENDS ${source}
        DEPFILE ${object}.d
        COMMENT "BPF ${name}.bpf.o"
        VERBATIM)
    add_custom_command(
        OUTPUT ${header}
        COMMAND ${BPFTOOL} gen skeleton ${object} name ${name}_bpf > ${header}
        DEPENDS ${object}
        COMMENT "BPF ${name}.skel.h"
        VERBATIM)
    add_custom_target(${name}_skeleton_header DEPENDS ${header})
    add_library(${name}_skeleton INTERFACE)
    add_dependencies(${name}_skeleton ${name}_skeleton_header)
    target_include_directories(${name}_skeleton SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR})
    target_link_libraries(${name}_skeleton INTERFACE PkgConfig::LIBBPF)
endfunction()
