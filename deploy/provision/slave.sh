#!/bin/sh
# Makes this Debian host a slave of a cluster. May be run again: the tasks that run go on meanwhile.
set -eu
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

usage() { printf 'usage: slave.sh --master HOST:PORT [--ip ADDRESS] [--insecure] [-- OPTION...]\n'; }

parse_options "$@"
[ -n "$master" ] || refuse "--master is missing"
require_root
install_packages
install_offerd
remember_master "$master"
install -m 0644 "$checkout/deploy/systemd/offerd-tasks.service" "$unit_dir/offerd-tasks.service"
# shellcheck disable=SC2086  # lists of words
install_service offerd-slave --master "$master" --work-dir /var/lib/offerd/slave ${ip:+--ip "$ip"} \
    $insecure $daemon_options
