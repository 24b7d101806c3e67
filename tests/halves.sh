#!/bin/sh
# Every test, in two halves at once: most of the time tests wait for something, and a machine with two processors has one for
# each. Needs nothing but the interpreter that has pytest: halves.sh PYTHON. Ends with 0 if both halves pass.
set -eu

python=$1
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'kill "$other" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

"$python" -m pytest tests/unit tests/sim tests/kernel >"$log" 2>&1 &
other=$!
status=0
"$python" -m pytest tests/e2e || status=$?
printf '\non the other processor meanwhile: the rings unit, sim and kernel\n'
others_status=0
wait "$other" || others_status=$?
cat "$log"
[ "$status" -eq 0 ] || printf 'offerd: tests/e2e failed, see above\n' >&2
[ "$status" -eq 0 ] && [ "$others_status" -eq 0 ]
