"""A slave that kills itself, as by `kill -9`, just before or just after a chosen step; and reports what it adopted.

The step is armed through a file, so that the next slave can have another one. Run in a process of its own.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from offerd_isolation.cgroups.module import CgroupsIsolation
from offerd_slave.core.state import Phase
from offerd_slave.daemon import SlaveDaemon
from offerd_slave.journal import Journal
from offerd_slave.launch.zygote_client import ZygoteClient
from offerd_slave.options import SlaveOptions
from offerd_slave.records import ContainerCheckpoint, JournalRecord, StatusStored, TaskDelivered
from offerd_slave.workdir import WorkDir

ISOLATION = (
    "prepare", "isolate", "update", "prepare_task", "kill_task", "cleanup_task", "cleanup", "recover",
)  # fmt: skip


class Adopted(NamedTuple):
    """What a slave has found: `after_s` from its first line to being registered with every executor back."""

    pid: int
    after_s: float
    tasks: list[str]


class Fate:
    """The step at which the slave dies, and what it has reported before."""

    def __init__(self, folder: Path) -> None:
        self._step, self._adopted = folder / "step", folder / "adopted"

    def arm(self, step: str, when: str) -> None:
        _write(self._step, f"{when} {step}")

    def disarm(self) -> None:
        self._step.unlink(missing_ok=True)

    def meet(self, step: str, when: str) -> None:
        """Called in the slave: die if this is the step."""
        try:
            armed = self._step.read_text()
        except FileNotFoundError:
            return
        if armed == f"{when} {step}":
            os.kill(os.getpid(), signal.SIGKILL)

    def report(self, adopted: Adopted) -> None:
        _write(self._adopted, json.dumps(adopted))

    def adopted(self, pid: int | None) -> Adopted | None:
        """What the slave with this pid has found, once it has all."""
        if not self._adopted.exists():
            return None
        found = Adopted(*json.loads(self._adopted.read_text()))
        return found if found.pid == pid else None


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


class MortalSlave(SlaveDaemon):
    """Reports when it is registered and all its executors have registered again."""

    def __init__(self, options: SlaveOptions, fate: Fate) -> None:
        self._fate = fate
        self._began = time.monotonic()
        self._has_reported = False
        super().__init__(options)

    def _turn(self) -> None:
        super()._turn()
        state = self.core.state
        if self._has_reported or not state.registered:
            return
        if all(each.phase is not Phase.LAUNCHING for each in state.containers.values()):
            self._has_reported = True
            tasks = [str(task_id) for _, task_id in state.tasks]
            self._fate.report(Adopted(os.getpid(), time.monotonic() - self._began, tasks))


def run_mortal_slave(folder: Path, options: SlaveOptions) -> int:
    """`run_slave` for a slave that dies at the armed step."""
    fate = Fate(folder)
    for name in ISOLATION:
        _mark(fate, CgroupsIsolation, name, lambda *_, step=name: [step])
    _mark(fate, ZygoteClient, "launch", lambda *_: ["launch"])
    _mark(fate, WorkDir, "save_container", _checkpoint_step)
    _mark(fate, WorkDir, "forget_container", lambda *_: ["forget"])
    _mark(fate, Journal, "append", _journal_steps)
    daemon = MortalSlave(options, fate)
    try:
        daemon.run()
    finally:
        daemon.close()
    return 0


def _mark(fate: Fate, owner: type, name: str, steps: Callable[..., Iterable[str]]) -> None:
    """Make a method a step; `steps` names what one call of it is."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def marked(self: Any, *arguments: Any, **more: Any) -> Any:
        found = list(steps(*arguments))
        for step in found:
            fate.meet(step, "before")
        value = method(self, *arguments, **more)
        for step in found:
            fate.meet(step, "after")
        return value

    setattr(owner, name, marked)


def _checkpoint_step(checkpoint: ContainerCheckpoint) -> list[str]:
    return ["checkpoint" if checkpoint.shim is None else "checkpoint with shim"]


def _journal_steps(records: list[JournalRecord]) -> list[str]:
    found = []
    for record in records:
        if isinstance(record, TaskDelivered):
            found.append("journal delivered")
        elif isinstance(record, StatusStored):
            found.append("journal ended" if record.status.state.terminal else "journal running")
        else:
            found.append("journal acknowledged")
    return found
