#!/bin/sh
# Makes this Debian host the master of a cluster. May be run again, with another address or a newer checkout.
set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

usage() { printf 'usage: master.sh --no-start | [--ip ADDRESS] [--insecure] [-- OPTION...]\n'; }

parse_options "$@"
[ -z "$master" ] || refuse "--master is for slave.sh"
require_root
install_packages
install_offerd
if ! id offerd >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin offerd
fi
if [ -n "$no_start" ]; then
    install_unit offerd-master
    say "installed; to make the cluster's keys and start the master: offerd master init"
    exit 0
fi
remember_master "$(at_port "${ip:-127.0.0.1}" 5060)"
# shellcheck disable=SC2086  # lists of words
install_service offerd-master --port 5060 ${ip:+--ip "$ip"} $insecure $daemon_options
