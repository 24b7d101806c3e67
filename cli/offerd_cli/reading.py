"""How `offerd logs` works: the master says where the task's sandbox is, its slave serves the file."""

from __future__ import annotations

import time

from offerd.errors import OfferdError
from offerd.files_access import NO_ACCESS
from offerd.ids import TaskID
from offerd.operator import OperatorClient
from offerd.operator_messages import TaskSummary
from offerd_cli.sandbox_files import LogReader, SandboxFiles
from offerd_cli.screen import Screen

POLL_S = 0.1
ASK_S = 1.0
"""How often, while nothing new comes, the master is asked whether the task has ended."""
EXIT_BROKEN_PIPE = 141


def find_task(client: OperatorClient, task: str, framework: str) -> TaskSummary:
    """The one task of this id. Raises `OfferdError` if there is none, or several and no framework says which."""
    found = [
        t
        for t in client.find_task(TaskID(task))
        if not framework or framework in (t.framework_id, t.framework_name)
    ]
    if not found:
        raise OfferdError(f"no task {task}; `offerd tasks --all` lists those the master remembers")
    if len(found) > 1:
        owners = ", ".join(t.framework_id for t in found)
        raise OfferdError(f"several frameworks have a task {task}; choose one with --framework: {owners}")
    return found[0]


def print_log(master: str, task: str, framework: str, name: str, *, follow: bool) -> int:
    """Print the file `name` of the task's sandbox; with `follow`, until the task has ended."""
    screen, files = Screen("offerd logs", progress=False), SandboxFiles()
    log: LogReader | None = None
    try:
        with OperatorClient(master) as client:
            found = find_task(client, task, framework)
            asked_at = time.monotonic()
            while True:
                # Known before the last look: what was written before the end is read after it.
                is_over = not follow or found.state.terminal
                log = log or _log_of(client, found, name, files)
                while log is not None and (content := log.read()):
                    screen.write(content)
                if is_over:
                    return 0
                time.sleep(POLL_S)
                if time.monotonic() - asked_at >= ASK_S:
                    found, asked_at = find_task(client, task, found.framework_id), time.monotonic()
                    if log is not None:
                        log.renew(client.files.get(found.slave_id, NO_ACCESS))
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    finally:
        files.close()


def _log_of(client: OperatorClient, task: TaskSummary, name: str, files: SandboxFiles) -> LogReader | None:
    """None while the task has no container. Raises `OfferdError` if it never had one."""
    container_id, path = _sandbox(task)
    if container_id:
        return LogReader(
            files, client.files.get(task.slave_id, NO_ACCESS), container_id, f"{path}/{name}".lstrip("/")
        )
    if task.state.terminal:
        raise OfferdError(
            f"task {task.task_id} never ran: it ended {task.state.value} {task.reason}".rstrip()
        )
    return None


def _sandbox(task: TaskSummary) -> tuple[str, str]:
    """The container and the path in it, from `containers/CONTAINER/PATH`; empty while the task has none."""
    container_id, _, path = task.sandbox.strip("/").removeprefix("containers/").partition("/")
    return container_id, path
