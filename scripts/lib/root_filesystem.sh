# shellcheck shell=bash
# Root file systems for containers, from this host's own files: no registry is asked. Source it.

# pack_libraries FOLDER PROGRAM...: what the programs load, below FOLDER at its own paths.
pack_libraries() {
    local folder=$1 program
    shift
    for program in "$@"; do
        # A static program has no libraries, which ldd calls a failure.
        { ldd "$program" 2>/dev/null || true; } | grep -oE '(^|[[:space:]])/[^ ]+' |
            xargs -r cp -L --parents -t "$folder"
    done
}

# pack_programs FOLDER PROGRAM...: the same with the programs themselves.
pack_programs() {
    local folder=$1
    shift
    cp -L --parents -t "$folder" "$@"
    pack_libraries "$folder" "$@"
}
