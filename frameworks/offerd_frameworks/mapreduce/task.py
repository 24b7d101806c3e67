"""Runs one task of a job on a slave: `python -m offerd_frameworks.mapreduce.task`, started by the command executor.

The task's description is in `OFFERD_MAPREDUCE_TASK`. It works in its own directory of the sandbox, where it leaves `output`,
`index` and `report.json`. The slave's file server serves them, also long after this executor has ended. The job's commands work
in a directory below.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import zlib
from collections.abc import Mapping
from typing import Any

import offerd
from offerd_frameworks.mapreduce import digests, map_task
from offerd_frameworks.mapreduce.failures import CommandFailed, TransferError, Unfetchable
from offerd_frameworks.mapreduce.streaming import COMMANDS, Reporter, leftovers
from offerd_frameworks.mapreduce.task_input import fetch_first

VARIABLE = "OFFERD_MAPREDUCE_TASK"
"""What does not fit into one variable continues in others, `OFFERD_MAPREDUCE_TASK_1` and so on."""
VARIABLE_BYTES = 120_000
REPORT = "report.json"
PROGRESS = "progress.json"
PROGRESS_EVERY_S = 0.5
KEEP_FILE = ".offerd-keep"
"""A file of this name keeps a task's directory for its framework: no slave removes it while a job may read it. The public
interface does not have the name, which the slave has from `offerd.tasks.sandbox_layout`."""
EXIT_FAILED = 1
EXIT_UNFETCHABLE = 3


def pack(task: dict[str, Any]) -> dict[str, str]:
    """A description as variables: the kernel takes at most 128 KiB in one (MAX_ARG_STRLEN, execve(2))."""
    text = base64.b64encode(zlib.compress(json.dumps(task).encode())).decode()
    parts = [text[at : at + VARIABLE_BYTES] for at in range(0, len(text), VARIABLE_BYTES)]
    return {f"{VARIABLE}_{number}" if number else VARIABLE: part for number, part in enumerate(parts)}


def stored_name(number: int) -> str:
    """The file servers' name for a job's `number`th file: its own name may be anything."""
    return f"file-{number}"


def unpack(environment: Mapping[str, str]) -> dict[str, Any]:
    """The opposite of `pack`."""
    text, number = environment[VARIABLE], 1
    while part := environment.get(f"{VARIABLE}_{number}"):
        text, number = text + part, number + 1
    task: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return task


class Progress:
    """Writes a task's progress now and then, to a file beside its output."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._said_s = 0.0

    def __call__(self, phase: str, done_bytes: int) -> None:
        now = time.monotonic()
        if phase == "shuffle" and now - self._said_s < PROGRESS_EVERY_S:
            return
        self._said_s = now
        said = {"phase": phase, "bytes": done_bytes, "status": self._reporter.status}
        _write(PROGRESS, json.dumps(said).encode())


def main() -> int:
    """Run the task; returns the exit status."""
    task = unpack(os.environ)
    reporter = Reporter()
    report: dict[str, Any] = {}
    status = EXIT_FAILED
    began = time.monotonic()
    try:
        _write(KEEP_FILE, b"")
        _place_files(task)
        if task["kind"] == "map":
            report = map_task.run(task, reporter)
        else:
            from offerd_frameworks.mapreduce import reduce_task  # a map does not need it

            report = reduce_task.run(task, reporter, Progress(reporter))
        status = 0
    except Unfetchable as error:
        report = {"error": _words(error), "unfetchable": error.maps}
        status = EXIT_UNFETCHABLE
    except (CommandFailed, TransferError, offerd.NoThread, OSError) as error:
        report = {"error": _words(error)}
    report["counters"] = dict(reporter.counters)
    report["seconds"] = round(time.monotonic() - began, 3)
    _write(REPORT, digests.seal(json.dumps(report).encode(), task["key"]))
    if "error" in report:
        sys.stderr.write(f"{report['error']}\n")
    return status


def _words(error: Exception) -> str:
    """The text of an error, as UTF-8 for a report, whatever bytes the names in it have."""
    return str(error).encode(errors="backslashreplace").decode()


def _place_files(task: dict[str, Any]) -> None:
    """Link the job's files, which are fetched once for each slave, into the directory of this task's commands.

    They are programs or pickles, so each is verified against the job's description before it gets its name.
    """
    os.mkdir(COMMANDS)
    if not task["files"]:
        return
    shelf = f"../../files-{task['set']}"
    os.makedirs(shelf, mode=0o700, exist_ok=True)
    for number, (name, (size, sha256)) in enumerate(task["files"].items()):
        if not os.path.exists(f"{shelf}/{name}"):
            stored = stored_name(number)
            mine = f"{shelf}/.{task['id']}.{stored}"
            fetch_first(task["shelves"], f"{task['data']}/{task['set']}/{stored}", mine, size, sha256)
            os.chmod(mine, 0o755)
            os.rename(mine, f"{shelf}/{name}")
        os.symlink(f"../{shelf}/{name}", f"{COMMANDS}/{name}")


def _write(name: str, content: bytes) -> None:
    with open(f".{name}", "wb") as file:
        file.write(content)
    os.rename(f".{name}", name)


if __name__ == "__main__":
    leftovers.begin()
    sys.exit(main())
