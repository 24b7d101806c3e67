"""The whole suite of measurements: `make bench`, or `python bench/run.py --quick`.

Everything is measured on a real cluster on this host, beside baselines measured in the same run. A full run takes some
minutes and wants the machine for itself; it writes `bench/results.md`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from rich.console import Console

import commands
import core
import latency
import memory
import report
import throughput
from figures import Findings
from machine import this_machine
from offerd.errors import OfferdError

SUBJECTS: dict[str, Callable[[bool], Findings]] = {
    "core": core.measure,
    "throughput": throughput.measure,
    "commands": commands.measure,
    "latency": latency.measure,
    "memory": memory.measure,
}


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, _end)
    machine = this_machine()
    console = Console()
    console.print(f"offerd on {machine.title}; kernel {machine.kernel}, Python {machine.python}")
    findings, failures = Findings(), []
    for name in options.only or SUBJECTS:
        print(f"measuring {name} ...", file=sys.stderr, end=" ", flush=True)
        started = time.monotonic()
        try:
            found = SUBJECTS[name](options.quick)
        except (
            OfferdError,
            OSError,
            LookupError,
            RuntimeError,
            EOFError,
            subprocess.SubprocessError,
        ) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
            print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        findings.rows += found.rows
        findings.notes += found.notes
    report.print_table(console, findings)
    if options.write if options.write is not None else not (options.quick or options.only):
        report.write(machine, findings, failures)
        console.print(f"\nwritten to {report.RESULTS.name}")
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: a minute, and rough")
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="write results.md (default: after a full run)",
    )
    return parser.parse_args()


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that every cluster is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
