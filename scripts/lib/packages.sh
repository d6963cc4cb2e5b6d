# shellcheck shell=bash
# Debian packages by purpose. Source it after common.sh, then call
#     install_packages build test
# It installs only what is missing, and says so in one line; otherwise it is silent.

# A set lists one package a line. An optional second word is the lowest version that will do: when the
# release has only an older one, it comes from the release's backports. `command:NAME` instead of a version
# means that the package is not needed where that command exists, wherever it came from.
declare -A package_sets
package_sets[build]='
g++
cmake
ninja-build
pkg-config
clang-19
llvm-19
bpftool 7.4
libbpf-dev 1:1.4
libelf-dev
zlib1g-dev
libyaml-cpp-dev
libmnl-dev
libc-ares-dev
libseccomp-dev
libcli11-dev
libspdlog-dev
libfmt-dev
libgtest-dev
libgmock-dev
libbenchmark-dev
libssl-dev
libsqlite3-dev
libpq-dev
nlohmann-json3-dev
prometheus-cpp-dev
libprotobuf-dev
libopentelemetry-proto-dev 1.5
python3
'
package_sets[test]='
ccache
prometheus
postgresql
sqlite3
nftables
iproute2
iputils-ping
ethtool
wireguard-tools
curl
git
shellcheck
clang-format-19
clang-tidy-19
libclang-rt-19-dev
systemd command:systemd-analyze
'
# golang-go builds the older wireguard-go that scripts/plain-wireguard-go is about, and fetches a newer Go for
# Traefik (scripts/traefik). Docker's own packages have a runc, and do not agree with Debian's.
package_sets[lab]='
iproute2
iputils-ping
nftables
openssl
wireguard-tools
wireguard-go 0.0.20230706
sqlite3
nginx
wrk
nodejs command:node
node-ws
python3-cryptography
golang-go command:go
ca-certificates
podman command:podman
runc command:runc
'
# OpenTelemetry's SDKs for Node and Python come from npm and PyPI (scripts/sdks).
package_sets[sdk]='
nodejs command:node
npm command:npm
python3-venv
ca-certificates
'
package_sets[vm]='
e2fsprogs command:mkfs.ext4
qemu-system-x86
busybox-static
kmod
cpio
xz-utils
zstd
'
package_sets[package]='
dpkg-dev
file
'
package_sets[bare]='
debootstrap
git
'

debian_release() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# The list of one set, with what differs between the releases.
package_set() {
    [[ -v package_sets[$1] ]] || die "there is no package set '$1'"
    printf '%s' "${package_sets[$1]}"
    if [[ $1 == build ]]; then
        # bookworm's default Boost is 1.74, which C++23 has outgrown.
        case $(debian_release) in
            bookworm) echo libboost1.81-dev ;;
            *) echo libboost-dev ;;
        esac
    fi
}

package_present() { # NAME [REQUIREMENT]
    local version
    if [[ ${2:-} == command:* ]] && command -v "${2#command:}" >/dev/null; then
        return 0
    fi
    version=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 1
    [[ $version == installed\ * ]] || return 1
    [[ -z ${2:-} || $2 == command:* ]] || dpkg --compare-versions "${version#installed }" ge "$2"
}

# URI and, where the host says so, keyring of the mirror that the host itself gets its release from.
debian_mirror() {
    local file uri key
    # shellcheck disable=SC2016 # apt's own variables
    uri=$(apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(RELEASE)' 2>/dev/null |
        awk -v release="$(debian_release)" '$1 == "Packages" && $3 == release { print $2; exit }')
    [[ -n $uri ]] || return 1
    for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -f $file ]] || continue
        key=$(sed -n -E 's/^Signed-By:[[:space:]]*(\/[^[:space:]]+).*/\1/p; s/^deb .*signed-by=([^] ,]+).*/\1/p' "$file")
        # A key of some other archive on this host is of no use here.
        key=$(grep -m1 debian-archive <<<"$key" || true)
        [[ -z $key ]] || break
    done
    printf '%s %s\n' "${uri%/}" "${key:-/usr/share/keyrings/debian-archive-keyring.gpg}"
}

# Two scripts may run at once: apt itself waits for dpkg's lock, but not for that of the package lists.
apt_quietly() {
    local log status=0
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" \
        >"$log" 2>&1 </dev/null || status=$?
    ((status == 0)) || apt_log=$(grep -E '^(E|W):' "$log" | tail -n 5 || tail -n 5 "$log")
    rm -f "$log"
    return "$status"
}

update_package_lists() {
    local try
    for try in 1 2 3; do
        ! apt_quietly update || return 0
        sleep "$((try * 2))"
    done
    die "apt-get update failed: $apt_log" "Is a Debian mirror reachable from here? Try 'apt-get update' by hand."
}

have_package_lists() {
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null
}

add_backports() {
    local release mirror key
    release=$(debian_release)-backports
    # shellcheck disable=SC2016
    if apt-get indextargets --format '$(RELEASE)' 2>/dev/null | grep -qx "$release"; then
        return
    fi
    read -r mirror key < <(debian_mirror) ||
        die "cannot tell which Debian mirror this host uses" "Add $release to /etc/apt/sources.list.d and try again."
    say "adding $release to apt's sources, at a priority that leaves installed packages alone"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$release" "$key" \
        >/etc/apt/sources.list.d/pangolin_exporter-backports.sources
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$release" \
        >/etc/apt/preferences.d/pangolin_exporter-backports
    update_package_lists
}

install_from() { # SUITE-OR-'' PACKAGE...
    local suite=$1
    shift
    (($# > 0)) || return 0
    local -a options=(--no-install-recommends -y)
    [[ -z $suite ]] || options+=(-t "$suite")
    apt_quietly install "${options[@]}" "$@" && return
    # Lists from last week name files that the mirror has since replaced.
    update_package_lists
    apt_quietly install "${options[@]}" "$@" ||
        die "apt-get install failed: $apt_log" "Run 'apt-get install $*' by hand to see the whole story."
}

install_packages() { # SET...
    local set name requirement candidate
    local -A requirements=()
    local -a missing=() plain=() backported=()
    for set in "$@"; do
        while read -r name requirement; do
            [[ -n $name ]] || continue
            if [[ -v requirements[$name] ]] || package_present "$name" "$requirement"; then
                continue
            fi
            requirements[$name]=$requirement
            missing+=("$name")
        done < <(package_set "$set")
    done
    ((${#missing[@]} > 0)) || return 0

    command -v apt-get >/dev/null ||
        die "needed and not installed: ${missing[*]}" "These are Debian's names; install their like by hand."
    ((EUID == 0)) ||
        die "needed and not installed: ${missing[*]}" "Run this once as root (sudo), or: apt-get install ${missing[*]}"

    say "installing for $*: ${missing[*]}"
    # The subshell's end releases the lock.
    (
        exec 9</var/lib/dpkg
        flock 9
        have_package_lists || update_package_lists
        for name in "${missing[@]}"; do
            requirement=${requirements[$name]}
            if [[ -n $requirement && $requirement != command:* ]]; then
                candidate=$(apt-cache policy "$name" | sed -n 's/^  Candidate: //p')
                # An installed backport is the candidate as well, so this does not ask for it twice.
                if [[ -z $candidate || $candidate == '(none)' ]] ||
                    ! dpkg --compare-versions "$candidate" ge "$requirement"; then
                    backported+=("$name")
                    continue
                fi
            fi
            plain+=("$name")
        done

        # Debian starts a daemon when its package is installed; these are wanted for their tools only.
        policy=/usr/sbin/policy-rc.d
        if [[ ! -e $policy ]]; then
            trap 'rm -f "$policy"' EXIT
            trap 'exit 1' INT TERM
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        install_from '' "${plain[@]}"
        if ((${#backported[@]} > 0)); then
            add_backports
            install_from "$(debian_release)-backports" "${backported[@]}"
        fi
        for name in prometheus postgresql nginx; do
            if [[ -v requirements[$name] ]] && command -v systemctl >/dev/null; then
                systemctl disable --quiet "$name" 2>/dev/null || true
            fi
        done
    ) || exit

    for name in "${missing[@]}"; do
        package_present "$name" "${requirements[$name]}" ||
            die "$name is still missing or older than ${requirements[$name]:-any version} after its installation" \
                "See 'apt-cache policy $name'."
    done
}
