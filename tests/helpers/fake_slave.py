"""A slave as an executor sees it: a real ROUTER on a path socket, which starts real executor processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import zmq

from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import ContainerID, ExecutorID, FrameworkID, PeerID, SlaveID, TaskID
from offerd.resources import NOTHING
from offerd.wire import codec
from offerd.wire.transport import Server, ipc, new_context
from offerd_linux.processes import descendants

DEADLINE_S = 20.0
"""How long anything is waited for before a test fails."""
TOKEN = "secret-of-this-container"


class FakeSlave:
    """Binds, starts one executor, registers it, stores its updates. A context manager: at its end everything that it started
    ends.

    Without a module it starts nothing: the executor is an `ExecutorDriver` in a thread of the test.
    """

    def __init__(self, sandbox: Path, module: str = "", environ: dict[str, str] | None = None) -> None:
        self.sandbox = sandbox
        self.module = module
        self.arguments = ["-m", module]
        """Options for Python that starts the executor."""
        self.environ = environ or {}
        self.socket_path = sandbox.parent / "executors.sock"
        self.stores = True
        """Whether updates are acknowledged as they come."""
        self.peer: PeerID | None = None
        self.registrations: list[m.RegisterExecutor] = []
        self.updates: list[m.ExecutorUpdate] = []
        self.messages: list[m.FrameworkMessage] = []
        self.ended: dict[TaskID, m.TaskStatus] = {}
        self.running: dict[TaskID, m.TaskStatus] = {}
        self._context = new_context()
        self._server: Server[codec.FromExecutor] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FakeSlave:
        self.sandbox.mkdir(parents=True, exist_ok=True)
        self.bind()
        if self.module:
            self.start_executor()
            self.wait_until(lambda: self.peer is not None, "the executor registers")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            # There is no shim: processes of this executor would outlive it.
            below = (
                [each.pid for each in descendants(self.process.pid)] if self.process.poll() is None else []
            )
            self.process.kill()
            for pid in below:
                end(pid)
            self.process.wait()
        self.unbind()
        self._context.term()

    def bind(self) -> None:
        """Bind the socket, as a starting slave does."""
        self.socket_path.unlink(missing_ok=True)
        self._server = Server(self._context, ipc(self.socket_path), codec.from_executor)

    def unbind(self) -> None:
        """Close the socket, as if the slave were killed: connections break, the socket's path stays."""
        if self._server is not None:
            self._server.close()
        self._server = None
        self.peer = None

    def executor_environ(self) -> dict[str, str]:
        """The variables that a slave puts into its executor's environment."""
        return {
            "PATH": os.environ["PATH"],
            "OFFERD_SLAVE_SOCKET": ipc(self.socket_path),
            "OFFERD_CONTAINER_ID": "container-1",
            "OFFERD_TOKEN": TOKEN,
            "OFFERD_FRAMEWORK_ID": "framework-1",
            "OFFERD_EXECUTOR_ID": "executor-1",
            "OFFERD_SLAVE_ID": "slave-1",
            "OFFERD_SANDBOX": str(self.sandbox),
            **self.environ,
        }

    def start_executor(self) -> None:
        with (self.sandbox / "stdout").open("ab") as stdout, (self.sandbox / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.sandbox,
                env=self.executor_environ(),
                start_new_session=True,
            )

    # -- Speaking
    # -----------------------------------------------------------------------------------------------

    def send(self, message: m.Message) -> None:
        """Queue for the next `flush` or wait."""
        assert self._server is not None
        assert self.peer is not None
        self._server.send(self.peer, message)

    def flush(self) -> None:
        assert self._server is not None
        assert self._server.flush() == []

    def launch(self, task: m.TaskInfo) -> TaskID:
        self.send(m.LaunchTask(task))
        return task.task_id

    def kill(self, task_id: TaskID, grace_s: float | None = None) -> None:
        self.send(m.KillTask(FrameworkID("framework-1"), task_id, SlaveID("slave-1"), grace_s))

    # -- Listening
    # ----------------------------------------------------------------------------------------------

    def turn(self, wait_s: float) -> None:
        """Send what is queued and take in what comes within `wait_s`."""
        assert self._server is not None
        if self.peer is not None:
            self.flush()
        if not self._server.socket.poll(int(wait_s * 1000), zmq.POLLIN):
            return
        highest = 0
        for peer, messages in self._server.drain():
            assert not isinstance(messages, BadMessage), messages
            for message in messages:
                if isinstance(message, m.ExecutorUpdate):
                    self._on_update(message)
                    highest = message.number
                elif isinstance(message, m.RegisterExecutor):
                    self._on_registration(peer, message)
                else:
                    self.messages.append(message)
        if highest and self.stores:
            self.store(highest)
        if self.peer is not None:
            self.flush()

    def store(self, number: int) -> None:
        """Confirm to the executor that all updates up to this number are stored."""
        self.send(m.UpdatesStored(number))

    def _on_registration(self, peer: PeerID, message: m.RegisterExecutor) -> None:
        assert message.token == TOKEN
        self.registrations.append(message)
        self.peer = peer
        self.send(
            m.ExecutorRegistered(
                m.FrameworkInfo("test", FrameworkID("framework-1")),
                m.ExecutorInfo(ExecutorID("executor-1"), self.module),
                SlaveID("slave-1"),
                "localhost",
                str(self.sandbox),
            )
        )

    def _on_update(self, update: m.ExecutorUpdate) -> None:
        self.updates.append(update)
        status = update.status
        assert status.container_id == ContainerID("container-1")
        if not status.state.terminal:
            self.running[status.task_id] = status
        else:
            earlier = self.ended.setdefault(status.task_id, status)
            assert earlier.sequence == status.sequence, "a second terminal status"

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Serve the executor until `condition`, or fail with what the executor wrote to its stderr."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            self.turn(0.05)
            if self.has_exited() and not condition():
                raise AssertionError(f"the executor ended before: {what}\n{self.complaints()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {DEADLINE_S:g} s: {what}\n{self.complaints()}")

    def wait_ended(self, task_ids: Iterable[TaskID]) -> list[m.TaskStatus]:
        """The terminal statuses of these tasks."""
        wanted = list(task_ids)
        self.wait_until(lambda: all(task_id in self.ended for task_id in wanted), f"the end of {wanted[:5]}")
        return [self.ended[task_id] for task_id in wanted]

    def wait_running(self, task_id: TaskID) -> None:
        self.wait_until(lambda: task_id in self.running or task_id in self.ended, f"{task_id} runs")

    def run(self, task: m.TaskInfo) -> m.TaskStatus:
        """Launch one task and wait for its end."""
        return self.wait_ended([self.launch(task)])[0]

    def shut_down(self, grace_s: float = 5.0) -> int:
        """Ask the executor to end; returns its exit status."""
        self.send(m.Shutdown(grace_s))
        self.wait_until(self.has_exited, "the executor ends")
        assert self.process is not None
        return self.process.returncode

    def has_exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def complaints(self) -> str:
        """What the executor wrote to its standard error."""
        stderr = self.sandbox / "stderr"
        return stderr.read_text() if stderr.exists() else ""

    # -- Looking at the executor
    # --------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def task(
    task_id: str,
    *argv: str,
    shell: str = "",
    environment: dict[str, str] | None = None,
    data: bytes = b"",
    kill_grace_s: float | None = None,
) -> m.TaskInfo:
    """A task for the command executor (`argv` or `shell`) or the python executor (`data`)."""
    command = m.CommandInfo(list(argv), shell, environment or {}) if argv or shell else None
    return m.TaskInfo(
        TaskID(task_id), NOTHING, ExecutorID("executor-1"), command, data, kill_grace_s=kill_grace_s
    )


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pid: int) -> None:
    """SIGKILL to a process that a test has started and lost sight of."""
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)
