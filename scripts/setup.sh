#!/bin/sh
# Installs what a build needs and is missing; silent when nothing is. Every make target calls it.
#   scripts/setup.sh         cargo, a C compiler, cmake (zlib-ng, a dependency of Pingora, is built with it)
#   scripts/setup.sh test    also rustfmt and clippy
# On Debian and Ubuntu it installs with apt-get; elsewhere one line names what to install.
set -u

say() { echo "weirgate setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Packages are named as Debian names them; hint() translates for other systems.
hint() {
    if have brew; then
        echo "brew install cmake (and xcode-select --install for the C compiler)"
    elif have dnf; then
        echo "sudo dnf install -y cmake gcc gcc-c++ make"
    elif have pacman; then
        echo "sudo pacman -S --needed cmake gcc make"
    elif have apk; then
        echo "sudo apk add cmake gcc g++ make musl-dev"
    elif have zypper; then
        echo "sudo zypper install -y cmake gcc gcc-c++ make"
    elif have apt-get; then
        echo "sudo apt-get install -y $1"
    else
        echo "cmake and a C compiler, from your system's packages"
    fi
}

install() {
    need=$1
    if [ ! -f /etc/debian_version ] || ! have apt-get; then
        say "missing $need; install with: $(hint "$need")"
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        sudo=""
    elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo="sudo"
    else
        say "missing $need; install with: $(hint "$need")"
        exit 1
    fi
    say "installing $need"
    # The first install may fail for want of package lists: fetch them once, then try again.
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need \
        >/dev/null 2>&1 </dev/null && return
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >/dev/null
    # shellcheck disable=SC2086
    if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need \
        </dev/null >/dev/null; then
        say "apt-get could not install $need; its message is above"
        exit 1
    fi
}

if ! have cargo; then
    say "cargo is missing; install Rust 1.88 or newer from https://rustup.rs and open a new terminal"
    exit 1
fi

# An old cargo stops at `edition = "2024"` with a message that names no version of Rust to get.
version=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
if [ -n "$version" ] && [ "$version" -lt 88 ]; then
    say "Rust 1.$version is too old; 1.88 or newer is needed: rustup update stable"
    exit 1
fi

packages=""
if ! have cc; then packages="gcc libc6-dev"; fi
if ! have cmake; then packages="$packages cmake make"; fi
if [ -n "$packages" ]; then install "${packages# }"; fi

if [ "${1:-}" = test ]; then
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 && continue
        say "cargo $part is missing; install with: rustup component add rustfmt clippy"
        exit 1
    done
fi
