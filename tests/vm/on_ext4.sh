#!/usr/bin/env bash
# Usage: on_ext4.sh COMMAND [ARGUMENT...]
#
# Runs COMMAND with its temporary files on an ext4 of their own.
set -euo pipefail

folder=$(mktemp -d "${TMPDIR:-/tmp}/pangolin_exporter-ext4.XXXXXX")
trap 'umount "$folder/mounted" 2>/dev/null || true; rm -rf --one-file-system "$folder"' EXIT
truncate -s 64M "$folder/image"
mkfs.ext4 -q "$folder/image"
mkdir "$folder/mounted"
mount -o loop "$folder/image" "$folder/mounted"
TMPDIR=$folder/mounted "$@"
