"""The measurements, in suites: `make bench` runs the first; `python bench/run.py --suite NAME --quick` runs any, roughly.

Everything is really measured on this host, beside baselines measured in the same run. A full run takes some minutes and needs
the machine for itself. It writes the suite's section of `bench/results.md`.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
import time
from types import FrameType

from rich.console import Console

import report
from figures import Findings
from machine import this_machine
from offerd.errors import OfferdError

# A suite is a `make` target (`bench`, `bench-NAME`) and a section of results.md; a subject is a module here with
# `measure(quick: bool) -> Findings`, imported only when it is run.
SUITES: dict[str, tuple[str, ...]] = {
    "cluster": ("core", "throughput", "commands", "latency", "memory"),
    "frameworks": ("wordcounts", "locality", "mpi_ranks"),
    "allocation": ("allocation", "simulated_scale"),
    "failover": ("failover", "readoption"),
    "kernel": ("kernel",),
    "docker": ("containers",),
    "keys": ("keys",),
    "history": ("history",),
}


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, _end)
    machine = this_machine()
    console = Console()
    console.print(f"offerd on {machine.title}; kernel {machine.kernel}, Python {machine.python}")
    findings, failures = Findings(), []
    for name in options.only or SUITES[options.suite]:
        print(f"measuring {name} ...", file=sys.stderr, end=" ", flush=True)
        started = time.monotonic()
        try:
            found: Findings = importlib.import_module(name).measure(options.quick)
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
        report.write(options.suite, machine, findings, failures)
        console.print(f"\nwritten to {report.RESULTS.name}")
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter runs: rough figures in a minute"
    )
    parser.add_argument("--suite", choices=list(SUITES), default="cluster", help="default: cluster")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these subjects of the suite")
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="write results.md (default: after a full run)",
    )
    options = parser.parse_args()
    for name in options.only or ():
        if name not in SUITES[options.suite]:
            parser.error(f"--only {name}: the suite {options.suite} has {', '.join(SUITES[options.suite])}")
    return options


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM raises like Ctrl-C, so that every cluster is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
