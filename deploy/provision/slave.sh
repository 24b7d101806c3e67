#!/bin/sh
# Makes this Debian host a slave of a cluster. May be run again; running tasks go on.
set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

usage() { printf 'usage: slave.sh --no-start | --master HOST:PORT [--ip ADDRESS] [--insecure] [-- OPTION...]\n'; }

parse_options "$@"
[ -n "$master$no_start" ] || refuse "--master is missing"
require_root
install_packages
install_offerd
install_unit offerd-tasks
if [ -n "$no_start" ]; then
    install_unit offerd-slave
    say "installed; to join a cluster: offerd slave join HOST:5060 TOKEN (on HOST, offerd token new --slave prints TOKEN)"
    exit 0
fi
remember_master "$master"
# shellcheck disable=SC2086  # lists of words
install_service offerd-slave --master "$master" --work-dir /var/lib/offerd/slave ${ip:+--ip "$ip"} \
    $insecure $daemon_options
