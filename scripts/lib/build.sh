# shellcheck shell=bash
# Configuring and building, quietly. Source it after common.sh.

# Before programs with ThreadSanitizer: that of gcc 12 knows where programs lie while 28 bits of an address are random,
# and newer kernels have more. Only root may read how many.
tsan_launcher=()
(($(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 32) <= 28)) || tsan_launcher=(setarch -R)

# build PRESET DIRECTORY [TARGET...]
build() {
    local preset=$1 directory=$2 log=$2/build.log
    local -a launcher=()
    shift 2
    # A test program is asked for its tests as soon as it is linked.
    [[ $preset != tsan ]] || launcher=("${tsan_launcher[@]}")
    say "building ${*:-everything} (preset $preset) in ${directory#"$PWD/"}"
    mkdir -p "$directory"
    # Two scripts at once must not build in the same directory.
    exec 7>"$directory/.build-lock"
    flock 7
    # With ccache a second clone, or a second folder, does not compile everything again.
    if command -v ccache >/dev/null; then
        export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
        export CCACHE_BASEDIR=$repository CCACHE_NOHASHDIR=1 CCACHE_DIR=$cache_directory/ccache
    fi
    if ! {
        cmake --preset "$preset" -S "$repository" -B "$directory" &&
            "${launcher[@]}" cmake --build "$directory" ${1:+--target "$@"}
    } >"$log" 2>&1 </dev/null 7>&-; then
        # From the first failure on, without the progress lines.
        grep -vE '^\[[0-9]+/[0-9]+\] ' "$log" | grep -A 60 -m1 -E 'FAILED|CMake Error|error:' >&2 || tail -n 60 "$log" >&2
        die "the build failed" "The whole story is in $log."
    fi
    exec 7>&-
}

# What systemd mounts on an ordinary host and containers often lack.
mount_kernel_filesystems() {
    ((EUID == 0)) || return 0
    mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
}
