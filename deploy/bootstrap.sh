#!/bin/sh
# Prepares a checkout, on any Debian that has python3, as root or not:
#
#   bootstrap.sh venv [EXTRA]       make .venv and install this checkout in it, with the extra `dev` for tests
#   bootstrap.sh packages [NAME...] install the named Debian packages, by default those of apt-packages.txt
#
# Both end at once if there is nothing to do: a second run needs no network.
# PYTHON names another interpreter than python3.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
venv=$top/.venv
python=${PYTHON:-python3}

say() { printf 'offerd: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

listed_packages() { sed 's/#.*//' "$here/apt-packages.txt"; }

# Prints those of the named packages that are not installed. `ii ` is "wanted, installed, no error".
missing_packages() {
    for name in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null || true) in
            ii*) ;;
            *) printf '%s ' "$name" ;;
        esac
    done
}

install_packages() {
    # shellcheck disable=SC2046  # names have no blanks, and each must be a word
    [ $# -gt 0 ] || set -- $(listed_packages)
    if ! command -v dpkg-query >/dev/null; then
        say "this is not Debian: install the equivalents of these packages: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "some tests need more Debian packages; run: sudo apt-get install -y $missing"
        return 0
    fi
    say "installing Debian packages: $missing"
    # The package lists of a fresh image are empty or old, so apt would find nothing.
    apt-get update -q -q </dev/null || die "apt-get update failed: fix the error above and run again"
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q -q --no-install-recommends $missing </dev/null >/dev/null \
        || die "apt-get install failed: fix the error above and run again"
}

check_python() {
    command -v "$python" >/dev/null || die "$python is not installed: install Python 3.11 or newer"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || die "Python 3.11 or newer is needed, but $python is $("$python" -V 2>&1): set PYTHON to a newer one"
}

# Debian's python3 comes without ensurepip, so it cannot make a venv with pip.
can_make_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

make_venv() {
    check_python
    if ! can_make_venv && [ "$(id -u)" -eq 0 ]; then
        install_packages python3-venv
    fi
    can_make_venv || die "$python cannot make a virtual environment; run: sudo apt-get install -y python3-venv"
    "$python" -m venv --clear "$venv"
}

# Everything that an installation depends on. A venv that was moved, or whose Python was upgraded, does not work.
fingerprint() {
    "$venv/bin/python" -V && printf '%s\n' "$top" && cksum <"$top/pyproject.toml"
}

# An installation with the extra `dev` also serves a request without it.
is_installed() {
    now=$(fingerprint 2>/dev/null) || return 1
    for extra in "$1" dev; do
        [ "$(cat "$venv/installed-$extra" 2>/dev/null)" != "$now" ] || return 0
    done
    return 1
}

install_venv() {
    extra=${1:-run}
    ! is_installed "$extra" || return 0
    if [ -e "$venv" ] && [ ! -w "$venv" ]; then
        die "$venv belongs to another user: remove it (sudo rm -rf '$venv') and run again"
    fi
    # If two makes run at once, one installs and the other waits. The lock ends with this process.
    exec 9<"$top/pyproject.toml"
    flock 9
    ! is_installed "$extra" || return 0
    say "installing into $venv"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
    target=$top
    [ "$extra" = run ] || target="${top}[$extra]"
    # Some dependencies have no pyproject.toml; without --use-pep517 Debian's pip prints long warnings about that.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 --editable "$target" </dev/null \
        || die "pip could not install offerd: fix the error above and run again"
    fingerprint >"$venv/installed-$extra"
}

case ${1:-} in
    venv) shift; install_venv "$@" ;;
    packages) shift; install_packages "$@" ;;
    *) say "usage: bootstrap.sh venv [EXTRA] | packages [NAME...]"; exit 2 ;;
esac
