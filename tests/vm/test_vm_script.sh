#!/usr/bin/env bash
# scripts/vm itself: streams, exit status, shared directory and modules, on one kernel. Exit status 77: skipped.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ((EUID != 0)) && [[ ${CI:-} != true ]]; then
    echo "skipped: needs root"
    exit 77
fi

status=0
# shellcheck disable=SC2016 # expanded in the machine
"$repository/scripts/vm" --timeout 300 --out "$work/out" "${1:-6.1}" -- bash -c '
    set -e
    echo "to stdout $PWD"
    echo "to stderr" >/dev/stderr
    uname -r >"$1/release"
    ip link add wg0 type wireguard
    mountpoint -q /sys/fs/bpf
    test -s /sys/kernel/btf/vmlinux
    sleep 100 &
    exit 37' bash "$work/out" >"$work/stdout" 2>"$work/stderr" || status=$?

expect() { # WHAT EXPECTED ACTUAL
    [[ $2 == "$3" ]] || {
        printf '%s: expected "%s", got "%s"\n' "$1" "$2" "$3"
        tail -n 20 "$work/stderr"
        exit 1
    }
}
expect "exit status" 37 "$status"
expect "stdout" "to stdout $repository" "$(cat "$work/stdout")"
expect "stderr" "to stderr" "$(tail -n 1 "$work/stderr")"
[[ -s $work/out/release && $(<"$work/out/release") != "$(uname -r)" ]] || expect "kernel" "another one" "$(uname -r)"
echo "ok: $(<"$work/out/release")"
