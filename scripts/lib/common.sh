# shellcheck shell=bash
# What every script here needs. Source it; it changes nothing by itself.

# shellcheck disable=SC2034 # read by the scripts that source this file
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # read by the scripts that source this file
cache_directory=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pangolin_exporter

# Progress goes to stderr: stdout belongs to results.
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# die MESSAGE [HINT]: one line that says what is wrong, and a sentence that says what to do.
die() {
    printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
    [[ -z ${2:-} ]] || printf 'HINT: %s\n' "$2" >&2
    exit 1
}

# Every script's help is the comment block below its first line.
print_help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# The repository's files of these names, committed or about to be, each ended by a zero byte.
repository_files() { # PATTERN...
    # Root may test somebody else's checkout.
    git -C "$repository" -c safe.directory="$repository" ls-files -z --cached --others --exclude-standard -- "$@" |
        while IFS= read -r -d '' file; do
            [[ ! -f $repository/$file ]] || printf '%s\0' "$file"
        done
}
