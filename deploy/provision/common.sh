#!/bin/sh
# The steps that masters' and slaves' hosts share. Sourced by master.sh and slave.sh; every step may be repeated.
# shellcheck disable=SC2034  # parse_options sets variables for the scripts that source this

prefix=/opt/offerd
share_dir=/usr/local/share
unit_dir=/etc/systemd/system
options_dir=/etc/default
# The master's user must be able to read what root installs, whatever root's umask is.
umask 022
checkout=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf 'offerd: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
refuse() { say "$@"; usage >&2; exit 2; }

# Parses the options of both scripts: sets ip, insecure, master, no_start and, from what follows --, daemon_options.
parse_options() {
    ip='' insecure='' master='' no_start='' daemon_options=''
    while [ $# -gt 0 ]; do
        case $1 in
            --ip | --master)
                [ $# -ge 2 ] || refuse "$1 needs a value"
                if [ "$1" = --ip ]; then ip=$2; else master=$2; fi
                shift 2
                ;;
            --insecure) insecure=--insecure; shift ;;
            --no-start) no_start=yes; shift ;;
            --) shift; daemon_options=$*; break ;;
            *) refuse "unknown option $1" ;;
        esac
    done
    # With --no-start nothing listens yet; `offerd master init` and `offerd slave join` make keys before they start a daemon.
    [ -z "$insecure$no_start" ] || return 0
    case " $daemon_options " in *" --authorized "* | *" --master-key "*) return 0 ;; esac
    [ -z "$ip" ] \
        || refuse "with --ip anybody who reaches the port may run programs: give the daemon keys (after --), or add --insecure"
    # A slave may also find its key in the host's store of credentials.
    case " $daemon_options " in *" --key "*) return 0 ;; esac
    [ -e /etc/offerd/clusters.toml ] && [ -n "$master" ] \
        || refuse "without keys every account of this host may run programs as root: give keys (after --), or add --insecure"
}

require_root() { [ "$(id -u)" -eq 0 ] || die "this installs services: run it as root (sudo $0 ...)"; }

install_packages() { "$checkout/deploy/bootstrap.sh" packages python3-venv; }

# A copy, not an editable installation: the host must not change when the checkout does. pip installs a folder again each time,
# even if its version is the same. Everything from an index has the versions and hashes of the lock files, as it runs as root.
install_offerd() {
    [ -x "$prefix/venv/bin/pip" ] || python3 -m venv --clear "$prefix/venv"
    pip_install --require-hashes --only-binary :all: --requirement "$checkout/deploy/build.lock"
    # cgroupspy is only published as source.
    pip_install --require-hashes --only-binary :all: --no-binary cgroupspy --no-build-isolation --use-pep517 \
        --requirement "$checkout/deploy/requirements.lock"
    pip_install --no-deps --no-build-isolation --use-pep517 "$checkout"
    ln -sf "$prefix/venv/bin/offerd" /usr/local/bin/offerd
    install_help
}

# Installs manual pages, and the completion for bash, zsh and fish, for all accounts. Removes pages of commands that no longer
# exist.
install_help() {
    rm -f "$share_dir"/man/man1/offerd.1 "$share_dir"/man/man1/offerd-*.1
    "$prefix/venv/bin/offerd" man "$share_dir/man" >/dev/null
    install_completion bash bash-completion/completions/offerd
    install_completion zsh zsh/site-functions/_offerd
    install_completion fish fish/vendor_completions.d/offerd.fish
}

install_completion() {
    mkdir -p "$share_dir/${2%/*}"
    "$prefix/venv/bin/offerd" completion "$1" >"$share_dir/$2"
}

pip_install() { "$prefix/venv/bin/pip" install --quiet --disable-pip-version-check "$@" </dev/null; }

# at_port HOST PORT: prints HOST:PORT, with an IPv6 address in brackets.
at_port() { case $1 in *:*) printf '[%s]:%s' "$1" "$2" ;; *) printf '%s:%s' "$1" "$2" ;; esac; }

# remember_master HOST:PORT: sets the master's address for `offerd` in every login shell of this host.
remember_master() { printf 'export OFFERD_MASTER=%s\n' "$1" >/etc/profile.d/offerd.sh; }

# install_unit NAME: installs the unit; `offerd master init` or `offerd slave join` starts it.
install_unit() {
    install -m 0644 "$checkout/deploy/systemd/$1.service" "$unit_dir/$1.service"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

# install_service NAME OPTIONS...: installs the unit, writes the daemon's options to OFFERD_OPTIONS, and starts it.
install_service() {
    name=$1
    shift
    install_unit "$name"
    printf '# Written by deploy/provision, which overwrites it when it runs again.\nOFFERD_OPTIONS="%s"\n' "$*" \
        >"$options_dir/$name"
    if [ ! -d /run/systemd/system ]; then
        say "systemd does not run here: $name is installed, but neither enabled nor started"
        return 0
    fi
    systemctl enable --quiet "$name"
    systemctl restart "$name"
    say "$name runs; see: systemctl status $name"
}
