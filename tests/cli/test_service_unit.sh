#!/usr/bin/env bash
# Usage: test_service_unit.sh REPOSITORY EXPORTER BROKER
#
# What systemd itself says of the shipped units: nothing to complain about, an exposure of at most 2.0 each, and what README.md
# says of it, where that is about this version of systemd.
set -euo pipefail

repository=$1 exporter=$2 broker=$3
most_exposure=20 # tenths

if ! command -v systemd-analyze >/dev/null; then
    echo "needs systemd-analyze"
    [[ ${CI:-} == true ]] && exit 1
    exit 77
fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/pangolin_exporter-unit.XXXXXX")
trap 'rm -rf "$folder"' EXIT
for template in "$repository"/scripts/systemd/*.service.in "$repository"/scripts/systemd/*.socket; do
    unit=$(basename "$template" .in)
    # The user is made when the package is installed.
    sed "s,@PANGOLIN_EXPORTER_PROGRAM@,$exporter,; s,@PANGOLIN_PROCESS_BROKER_PROGRAM@,$broker,; s,User=pangolin_exporter,User=daemon," \
        "$template" >"$folder/$unit"
done

complaints=$(systemd-analyze verify "$folder"/pangolin_* 2>&1)
[[ -z $complaints ]] || { printf '%s\n' "$complaints"; exit 1; }
read -r _ version _ < <(systemd-analyze --version)
for service in pangolin_exporter.service pangolin_process_broker.service; do
    said=$(systemd-analyze security --offline=true --no-pager --threshold="$most_exposure" "$folder/$service") ||
        { printf '%s\n' "$said"; exit 1; }
    score=$(sed -n "s/.*Overall exposure level for $service: \([0-9.]*\).*/\1/p" <<<"$said")
    echo "$service: $score"
    grep -q "^| \`$service\` | [0-9.]* (systemd [0-9]*) " "$repository/README.md" || { echo "README.md has no figure of $service"; exit 1; }
    written=$(sed -n "s/^| \`$service\` | \([0-9.]*\) (systemd $version) .*/\1/p" "$repository/README.md")
    if [[ -n $written && $written != "$score" ]]; then
        echo "README.md says $written of $service"
        exit 1
    fi
done
