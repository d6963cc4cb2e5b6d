# shellcheck shell=bash
# Debian kernels to boot in scripts/vm. Source it after common.sh and packages.sh.
#     kernel_directory 6.1
# prints a directory with vmlinuz, initramfs and lib/modules, made on first use.

# The release whose linux-image-amd64 is of that line.
kernel_suite() {
    case $1 in
        5.10) echo bullseye ;;
        6.1) echo bookworm ;;
        6.12) echo trixie ;;
        newest) echo sid ;;
        *) die "no kernel '$1'" "Give 5.10, 6.1, 6.12, newest, or a package name that begins with linux-image-." ;;
    esac
}

# apt with lists of its own, so that the host's sources stay what they are. SUITE is the first argument.
apt_of_suite() { # SUITE PROGRAM ARGUMENT...
    local suite=$1 program=$2 root=$cache_directory/apt/$1
    shift 2
    "$program" -c "$root/apt.conf" "$@"
}

prepare_suite() { # SUITE
    local suite=$1 root=$cache_directory/apt/$1 mirror key
    read -r mirror key < <(debian_mirror) || {
        # A freshly made system has no lists to tell its mirror from.
        ((EUID != 0)) || update_package_lists
        read -r mirror key < <(debian_mirror) ||
            die "cannot tell which Debian mirror this host uses" "Run apt-get update as root and try again."
    }
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/none"
    echo "deb [arch=amd64 signed-by=$key] $mirror $suite main" >"$root/sources.list"
    cat >"$root/apt.conf" <<END
APT::Architecture "amd64";
Dir::Etc::sourcelist "$root/sources.list";
Dir::Etc::sourceparts "$root/none";
Dir::Etc::preferences "$root/none/preferences";
Dir::Etc::preferencesparts "$root/none";
Dir::State::lists "$root/lists";
Dir::State::status "/dev/null";
Dir::Cache "$root/cache";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
Acquire::Retries "3";
END
    local log
    if ! log=$(apt_of_suite "$suite" apt-get -qq update 2>&1); then
        die "cannot read $suite's package list: $(tail -n 1 <<<"$log")" "Is the mirror of /etc/apt/sources.list* reachable?"
    fi
}

# Package name of the kernel to use. Asked of the mirror once a week; in between, and without a mirror, the last answer holds.
kernel_package() { # NAME
    local name=$1 answer=$cache_directory/kernels/$1.package suite package
    if [[ $name == linux-image-* ]]; then
        printf '%s' "$name"
        return
    fi
    suite=$(kernel_suite "$name") || exit
    if [[ ! -s $answer || -n $(find "$answer" -mtime +7) ]]; then
        if (prepare_suite "$suite"); then
            package=$(apt_of_suite "$suite" apt-cache show --no-all-versions linux-image-amd64 |
                grep -oE -m1 'linux-image-[0-9][^ ,]*')
            printf '%s\n' "$package" >"$answer.$$"
            mv "$answer.$$" "$answer"
        elif [[ ! -s $answer ]]; then
            exit 1
        fi
    fi
    cat "$answer"
}

# Downloads the package, and those that newer kernels are split into, into the current directory.
download_kernel() { # NAME PACKAGE
    local name=$1 package=$2 suite part
    local -a suites=(bullseye bookworm bookworm-backports trixie trixie-backports sid) parts=()
    [[ $name == linux-image-* ]] || suites=("$(kernel_suite "$name")")
    for suite in "${suites[@]}"; do
        [[ -s $cache_directory/apt/$suite/apt.conf ]] || prepare_suite "$suite"
        if apt_of_suite "$suite" apt-cache show "$package" >/dev/null 2>&1; then
            parts=("$package")
            for part in base binary modules; do
                part=linux-$part-${package#linux-image-}
                ! apt_of_suite "$suite" apt-cache show "$part" >/dev/null 2>&1 || parts+=("$part")
            done
            apt_of_suite "$suite" apt-get -qq download "${parts[@]}" && return
            # The mirror has moved on since the list was read.
            prepare_suite "$suite"
            apt_of_suite "$suite" apt-get -qq download "${parts[@]}" && return
        fi
    done
    die "kernel package $package cannot be downloaded" "Remove $cache_directory/kernels/$name.package to look for its successor."
}

# The first file system: busybox and just the modules that reach the host's files.
build_initramfs() { # DIRECTORY VERSION
    local directory=$1 version=$2 root module
    root=$(mktemp -d "$directory/initramfs.XXXXXX")
    mkdir -p "$root"/{bin,modules,proc,sys,dev,host,memory,root}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for module in virtio_pci virtio_console 9pnet_virtio 9p overlay; do
        # Built-in ones need no file.
        modprobe -d "$directory" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r module; do
        local file=$root/modules/${module##*/}
        case $module in
            *.xz) xz -dc "$module" >"${file%.xz}" ;;
            *.zst) zstd -qdc "$module" >"${file%.zst}" ;;
            *) cp "$module" "$file" ;;
        esac
        basename "${file%.xz}" .zst >>"$root/modules/order"
    done
    cp "$repository/scripts/lib/vm-initramfs" "$root/init"
    chmod 755 "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$directory/initramfs"
    rm -rf "$root"
}

kernel_directory() { # NAME
    local name=$1 package directory version work
    mkdir -p "$cache_directory/kernels"
    package=$(kernel_package "$name") || exit
    directory=$cache_directory/kernels/${package#linux-image-}
    exec 8>"$cache_directory/kernels/lock"
    flock 8
    if [[ ! -s $directory/vmlinuz ]]; then
        say "downloading $package"
        work=$(mktemp -d "$cache_directory/kernels/new.XXXXXX")
        # shellcheck disable=SC2064 # the directory is known now
        trap "rm -rf '$work'" EXIT
        (
            cd "$work"
            download_kernel "$name" "$package"
            for part in ./*.deb; do
                dpkg-deb -x "$part" root
                rm "$part"
            done
            mkdir -p lib
            # A merged /usr has the modules below it.
            if [[ -d root/usr/lib/modules ]]; then mv root/usr/lib/modules lib/; else mv root/lib/modules lib/; fi
            version=$(ls lib/modules)
            find root -name "vmlinuz*" -type f -exec mv {} vmlinuz \;
            [[ -s vmlinuz ]] || mv "lib/modules/$version/vmlinuz" vmlinuz
            rm -rf root
            chmod -R a+rX .
            depmod -b . "$version"
        ) || exit
        chmod 755 "$work"
        rm -rf "$directory"
        mv "$work" "$directory"
        trap - EXIT
    fi
    version=$(ls "$directory/lib/modules")
    if [[ ! -s $directory/initramfs || $repository/scripts/lib/vm-initramfs -nt $directory/initramfs ]]; then
        build_initramfs "$directory" "$version"
    fi
    exec 8>&-
    printf '%s\n' "$directory"
}
