#!/usr/bin/env bash
# Usage: test_package.sh BUILD-DIRECTORY
#
# The Debian package in a copy of this system that nothing outside sees: installed, installed again, removed, purged.
set -euo pipefail

build=$1

skip() {
    echo "$1"
    [[ ${CI:-} == true ]] && exit 1
    exit 77
}
((EUID == 0)) || skip "needs root"
command -v dpkg-shlibdeps >/dev/null || skip "needs dpkg-dev"

folder=$(mktemp -d "${TMPDIR:-/tmp}/pangolin_exporter-package.XXXXXX")
trap 'rm -rf --one-file-system "$folder"' EXIT
cpack --config "$build/CPackConfig.cmake" -B "$folder/packages" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
mkdir "$folder/root"

# Mounts end with the namespace.
unshare --mount bash -euo pipefail -s "$folder" <<'INSIDE'
folder=$1 root=$1/root
# On another filesystem than the root, which may be an overlay itself.
mount -t tmpfs pangolin_exporter_test "$root"
mkdir "$root"/{upper,work,system}
mount -t overlay pangolin_exporter_test -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/system"
mount -t proc proc "$root/system/proc"
mount -t tmpfs tmp "$root/system/tmp"
mount -t tmpfs run "$root/system/run"
cp "$folder"/packages/*.deb "$root/system/tmp/package.deb"

inside() { chroot "$root/system" "$@"; }
fail() { echo "$1"; exit 1; }
# What this system has of an exporter does not count.
inside dpkg --purge pangolin-exporter >/dev/null 2>&1 || true
inside sh -c 'userdel pangolin_exporter; rm -rf /var/lib/pangolin_exporter' 2>/dev/null || true

inside dpkg --install /tmp/package.deb
inside id pangolin_exporter
units=/usr/lib/systemd/system
started=()
for unit in "$units"/pangolin_{exporter,process_broker}.service; do
    program=$(inside sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
    [[ $(inside dpkg --search "$program") == "pangolin-exporter: $program" ]] || fail "$unit starts another program: $program"
    [[ -x $root/system$program ]] || fail "$unit starts nothing: $program"
    started+=("$unit" "$program")
done
inside "${started[1]}" --version
complaints=$(inside systemd-analyze verify "$units"/pangolin_{exporter.service,process_broker.service,process_broker.socket} 2>&1)
[[ -z $complaints ]] || fail "$complaints"
# As README.md tells Prometheus and Grafana.
[[ -s $root/system/usr/share/pangolin_exporter/pangolin_exporter.rules.yml ]] || fail "no alerting rules"
[[ -s $root/system/usr/share/pangolin_exporter/dashboards/pangolin-site.json ]] || fail "no dashboards"

inside install -d -o pangolin_exporter /var/lib/pangolin_exporter
inside touch /var/lib/pangolin_exporter/state
inside dpkg --install /tmp/package.deb
inside dpkg --remove pangolin-exporter
for path in "${started[@]}"; do
    [[ ! -e $root/system$path ]] || fail "$path is left of a removed package"
done
[[ -e $root/system/var/lib/pangolin_exporter/state ]] || fail "the totals went with the package"
inside dpkg --purge pangolin-exporter
[[ ! -e $root/system/var/lib/pangolin_exporter ]] || fail "the totals outlived a purge"
INSIDE
