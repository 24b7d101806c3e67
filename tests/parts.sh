#!/bin/sh
# Every test, or those in the paths named, in two halves at once: most of the time tests wait for something, and a machine with two
# processors has one for each. Needs nothing but the interpreter that has pytest: halves.sh PYTHON [PATH...]. Ends with 0 if
# both halves pass.
set -eu

python=$1
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- tests/e2e tests/unit tests/sim tests/kernel
processes='' others=''
for path in "$@"; do
    case $path in tests/e2e*) processes="$processes $path" ;; *) others="$others $path" ;; esac
done
log=$(mktemp)
trap 'kill "$other" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC2086  # lists of words
"$python" -m pytest $others >"$log" 2>&1 &
other=$!
status=0
# shellcheck disable=SC2086
"$python" -m pytest $processes || status=$?
printf '\non the other processor meanwhile:%s\n' "$others"
others_status=0
wait "$other" || others_status=$?
cat "$log"
[ "$status" -eq 0 ] || printf 'offerd:%s failed, see above\n' "$processes" >&2
[ "$status" -eq 0 ] && [ "$others_status" -eq 0 ]
