"""How `offerd logs` works: the master reports where the task's sandbox is, and its slave serves the file."""

from __future__ import annotations

import time
from contextlib import suppress

from offerd.errors import MasterUnreachable, OfferdError
from offerd.files_access import NO_ACCESS
from offerd.ids import TaskID
from offerd.operator import OperatorClient
from offerd.operator_messages import TaskSummary
from offerd.tasks.sandbox_files import AWAY_S, SandboxFiles, SandboxLog, Unreachable, place_in_sandbox
from offerd_cli.exit_statuses import EXIT_BROKEN_PIPE
from offerd_cli.screen import Screen

POLL_S = 0.1
ASK_S = 1.0
"""How often the master is asked whether the task has ended, while nothing new comes."""
_NOT_KEPT = "they were sent to the task's launcher at its end, or were removed"


def find_task(client: OperatorClient, task: str, framework: str) -> TaskSummary:
    """The one task with this id. Raises `OfferdError` if there is none, or if several frameworks have one."""
    found = [
        t
        for t in client.find_task(TaskID(task))
        if not framework or framework in (t.framework_id, t.framework_name)
    ]
    if not found:
        raise OfferdError(
            f"there is no task {task}; `offerd tasks --all` lists all that the master remembers"
        )
    if len(found) > 1:
        owners = ", ".join(t.framework_id for t in found)
        raise OfferdError(f"several frameworks have a task {task}; choose one with --framework: {owners}")
    return found[0]


def print_log(master: str, task: str, framework: str, name: str, *, follow: bool) -> int:
    """Print the file `name` of the task's sandbox; with `follow`, until the task has ended. The status is 1 if that is not all
    that the task has written.
    """
    screen, files = Screen("offerd logs", progress=False), SandboxFiles()
    log: SandboxLog | None = None
    away_since: float | None = None
    gone = 0
    try:
        with OperatorClient(master) as client:
            found = find_task(client, task, framework)
            asked_at, client.tries_on = time.monotonic(), True
            while True:
                # Asked before the last look, so that everything written before the end is read.
                is_over = not follow or found.state.terminal
                log = log or _log_of(client, found, name, files)
                try:
                    while log is not None and (content := log.read()):
                        if log.received_bytes == len(content) and found.output is None:
                            gone = log.gone_bytes()
                        screen.write(content)
                    away_since = None
                except Unreachable:
                    # The slave may have been restarted, perhaps with another address: the master is asked for it below.
                    now = time.monotonic()
                    away_since = away_since or now
                    if not follow or now - away_since >= AWAY_S:
                        raise
                if is_over and away_since is None:
                    return _compare(screen, found, name, log, gone)
                time.sleep(POLL_S)
                if time.monotonic() - asked_at >= ASK_S:
                    # Files can be read while the master is away; the client prints what it waits for.
                    with suppress(MasterUnreachable):
                        found = find_task(client, task, found.framework_id)
                        if log is not None:
                            log.renew(client.files.get(found.slave_id, NO_ACCESS))
                    asked_at = time.monotonic()
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    finally:
        files.close()


def _compare(screen: Screen, task: TaskSummary, name: str, log: SandboxLog | None, gone: int) -> int:
    """The exit status: whether all that the task has written was there. `gone`: bytes of its executor's log before that."""
    if log is None:
        return 0
    if task.output is None:
        if gone:
            screen.note(
                f"the first {gone} bytes of its executor's {name} are gone: only the end of a log is kept (--log-size)"
            )
            return 1
        if log.has_gaps:
            screen.note(f"a part of its {name} was removed before it could be read")
        return 1 if log.has_gaps else 0
    written = task.output.stderr_bytes if name == "stderr" else task.output.stdout_bytes
    missing = log.missing_bytes(written)
    if missing and not log.received_bytes:
        screen.note(f"the {written} bytes of its {name} are not on its slave: {_NOT_KEPT}")
    elif missing:
        screen.note(
            f"{missing} of {written} bytes of its {name} are gone: only the end of a log is kept (--log-size)"
        )
    return 1 if missing else 0


def _log_of(client: OperatorClient, task: TaskSummary, name: str, files: SandboxFiles) -> SandboxLog | None:
    """None while the task has no container. Raises `OfferdError` if it never had one."""
    container_id, path = place_in_sandbox(task.sandbox)
    if container_id:
        return SandboxLog(
            files, client.files.get(task.slave_id, NO_ACCESS), container_id, f"{path}/{name}".lstrip("/")
        )
    if task.state.terminal:
        because = task.message or task.reason or task.state.value
        raise OfferdError(f"task {task.task_id} never ran, so it has written nothing: {because}")
    return None
