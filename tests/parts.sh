#!/bin/sh
# Every test, or those in the paths named, in four parts at once: two of the ring e2e, most of the kernel ring, and all others.
# Most of the time tests wait for something, so two processors have time for them. parts.sh PYTHON [PATH...]; an option of
# pytest's among the paths is for the last part. Shows the first part as it runs and each other one when it has ended, and ends
# with 0 if all pass.
set -eu

python=$1
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- tests/e2e/docker tests/e2e/test_*.py tests/unit tests/sim tests/kernel/test_*.py
first='' second='' kernel='' later='' others=''
for path in "$@"; do
    case $path in
        # One to the one, the next to the other: that is balance enough.
        tests/e2e*) swapped=$second second="$first $path" first=$swapped ;;
        # A guest for the longer part of the kernel ring from the start, and one for the rest where the other parts end sooner.
        tests/kernel/test_[d-p]*) later="$later $path" ;;
        tests/kernel*) kernel="$kernel $path" ;;
        *) others="$others $path" ;;
    esac
done

[ -z "$later" ] || first="$first $later"

logs=$(mktemp -d)
pids=''
# shellcheck disable=SC2086  # a list of numbers
end() { [ -z "$pids" ] || kill $pids 2>/dev/null || true; rm -rf "$logs"; }
trap end EXIT
trap 'exit 130' INT TERM

started=0
for part in "$first" "$kernel" "$others"; do
    [ -n "$part" ] || continue
    started=$((started + 1))
    # shellcheck disable=SC2086  # lists of words
    "$python" -m pytest --durations=10 $part >"$logs/$started" 2>&1 &
    pids="$pids $!"
done
failed=0
if [ -n "$second" ]; then
    # shellcheck disable=SC2086
    "$python" -m pytest --durations=10 $second || failed=$((failed + 1))
fi
ended=0
for pid in $pids; do
    wait "$pid" || failed=$((failed + 1))
    ended=$((ended + 1))
    printf '\nmeanwhile:\n'
    cat "$logs/$ended"
done
pids=''
[ "$failed" -eq 0 ] || printf 'offerd: %s of the parts failed, see above\n' "$failed" >&2
[ "$failed" -eq 0 ]
