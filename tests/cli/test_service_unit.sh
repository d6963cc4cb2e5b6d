#!/usr/bin/env bash
# Usage: test_service_unit.sh UNIT EXPORTER
#
# What systemd itself says of the shipped unit: nothing to complain about, and an exposure of at most 2.1.
set -euo pipefail

unit=$1 exporter=$2
most_exposure=21 # tenths; README.md, "Least privilege", says what it is made of

if ! command -v systemd-analyze >/dev/null; then
    echo "needs systemd-analyze"
    [[ ${CI:-} == true ]] && exit 1
    exit 77
fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/pangolin_exporter-unit.XXXXXX")
trap 'rm -rf "$folder"' EXIT
sed "s,@PANGOLIN_EXPORTER_PROGRAM@,$exporter,; s,^User=.*,User=daemon," "$unit" >"$folder/pangolin_exporter.service"

complaints=$(systemd-analyze verify "$folder/pangolin_exporter.service" 2>&1)
[[ -z $complaints ]] || { printf '%s\n' "$complaints"; exit 1; }
systemd-analyze security --offline=true --no-pager --threshold="$most_exposure" "$folder/pangolin_exporter.service"
