"""To write an executor, subclass `Executor`, give it to an `ExecutorDriver`, and call `run()`.

    class Printer(Executor):
        def launch_task(self, driver, task):
            driver.send_status(task.task_id, TaskState.RUNNING)
            print(task.data.decode())
            driver.send_status(task.task_id, TaskState.FINISHED)

    raise SystemExit(ExecutorDriver(Printer()).run())

The slave starts the program and gives it its ids, its token and the slave's address in the environment (`OFFERD_...`, see
`ExecutorDriver`). The driver speaks to the slave over a path socket and keeps every status until the slave has stored it.
It outlives a slave that is restarted: tasks go on meanwhile.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import zmq

from offerd import messages as m
from offerd.drivers.callbacks import check_callbacks
from offerd.drivers.executor_loop import Loop, Timer
from offerd.drivers.status_queue import StatusQueue
from offerd.errors import BadInput, MessageTooLarge
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.tasks.task_cgroups import TASK_CGROUPS
from offerd.values.bounds import MAX_STATUS_BYTES
from offerd.values.failures import describe
from offerd.wire import codec
from offerd.wire.codec import MAX_EXECUTOR_BYTES
from offerd.wire.posix_text import readable, unpacked, unpacked_task
from offerd.wire.transport import Client, ipc, new_context

DEFAULT_GRACE_S = 5.0
"""Seconds from SIGTERM to SIGKILL where neither the kill nor the task names a grace."""
DEFAULT_RECOVERY_TIMEOUT_S = 900.0
"""How long an executor waits for a slave that has gone, unless its environment says otherwise."""
STOP_LINGER_S = 5.0
"""How long a stopped driver waits for the slave to store its last statuses."""
SHUTDOWN_SLACK_S = 5.0
"""An executor that has been asked to shut down is stopped this long after its grace."""
RECONNECT_DELAY_S = 0.02
"""Wait before a new connection, so that a slave that closes each one at once is not flooded."""
REGISTER_BYTES = 768 << 10
"""Largest registration: unacknowledged statuses are added to the task ids up to this size. All are sent again after it, with
their numbers.
"""
REGISTER_IDS_BYTES = MAX_EXECUTOR_BYTES - (16 << 10)
"""Most bytes of task ids in a registration. A task that it does not name is lost, so ids come before statuses."""
TURN_MESSAGES = 2000
"""After so many messages, send what they have caused before handling more."""


class Executor:
    """Runs a framework's tasks on a slave. Subclass it, override `launch_task` and `kill_task`, and give one to an
    `ExecutorDriver`.

        class Printer(Executor):
            def launch_task(self, driver, task):
                driver.send_status(task.task_id, TaskState.RUNNING)
                print(task.data.decode())
                driver.send_status(task.task_id, TaskState.FINISHED)

        raise SystemExit(ExecutorDriver(Printer()).run())

    All callbacks come from the thread that is in `ExecutorDriver.run()`, one at a time. A callback must not block: start a
    process or thread, or use the driver's `add_reader` and `call_later`. If `launch_task` or `kill_task` raises, that task
    fails with the traceback, and the executor goes on.
    """

    places_tasks: ClassVar[bool] = False
    """Whether it puts each task's processes into the task's own cgroup, where the slave makes such
    (`offerd.tasks.task_cgroups`).
    """

    def registered(
        self,
        driver: ExecutorDriver,
        framework: m.FrameworkInfo,
        executor: m.ExecutorInfo,
        slave_id: SlaveID,
        sandbox: str,
    ) -> None:
        """The slave knows this executor, and will send it tasks. `executor` is its description, with its `data`; `sandbox` is
        the executor's directory.
        """

    def reregistered(self, driver: ExecutorDriver, slave_id: SlaveID) -> None:
        """The slave was restarted, and knows this executor again."""

    def disconnected(self, driver: ExecutorDriver) -> None:
        """The slave is gone. Tasks go on, and the driver keeps statuses until a slave is back; after 15 minutes without one
        (`OFFERD_RECOVERY_TIMEOUT_S`) it calls `shutdown`.
        """

    def launch_task(self, driver: ExecutorDriver, task: m.TaskInfo) -> None:
        """Start this task, and return. Report it `RUNNING`, and its end with one terminal state, by `driver.send_status`."""
        raise NotImplementedError

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        """End this task: TERM, and KILL after `grace_s` seconds. Report `KILLED` when nothing of it is left. Where that takes
        too long, the slave kills the task's processes itself, and then the executor.
        """

    def framework_message(self, driver: ExecutorDriver, data: bytes) -> None:
        """Bytes from the framework's scheduler. Best effort: they may be lost."""

    def shutdown(self, driver: ExecutorDriver, grace_s: float) -> None:
        """End all tasks within `grace_s` seconds, report them, then call `driver.stop()`. This default only does the last."""
        driver.stop()


class _Task:
    """The driver's state of a task that has not ended."""

    __slots__ = ("grace_s", "sequence")

    def __init__(self, grace_s: float | None) -> None:
        self.sequence = 0
        self.grace_s = DEFAULT_GRACE_S if grace_s is None else grace_s


class ExecutorDriver:
    """Connects an `Executor` to its slave, and runs it.

        raise SystemExit(ExecutorDriver(MyExecutor()).run())

    The driver keeps each status until the slave has stored it. When the slave is restarted it connects again, and tasks go on
    meanwhile. An executor of many short tasks may set `hold_running_s` and `hold_updates_s`, also while it runs, so that it
    and all behind it handle fewer messages.
    """

    def __init__(self, executor: Executor, environ: Mapping[str, str] | None = None) -> None:
        """`environ` has the variables that the slave starts an executor with (`OFFERD_...`); None: the process's own. Raises
        `BadInput` if one is missing, and `WrongType` for an executor with a method that only looks like a callback.
        """
        environ = os.environ if environ is None else environ
        check_callbacks(executor, Executor)
        self._executor = executor
        address = _variable(environ, "OFFERD_SLAVE_SOCKET")
        self._address = address if address.startswith("ipc://") else ipc(address)
        self.container_id = ContainerID(_variable(environ, "OFFERD_CONTAINER_ID"))
        """The executor's container."""
        self.framework_id = FrameworkID(_variable(environ, "OFFERD_FRAMEWORK_ID"))
        """The executor's framework."""
        self.executor_id = ExecutorID(_variable(environ, "OFFERD_EXECUTOR_ID"))
        """The framework's name for the executor."""
        self.slave_id = SlaveID(environ.get("OFFERD_SLAVE_ID", ""))
        """The slave; empty before it first answers, if it had no id when it started the executor."""
        self.sandbox = environ.get("OFFERD_SANDBOX", os.getcwd())
        """The executor's directory."""
        self.hold_running_s = 0.0
        """How long a `RUNNING` may wait; it is never sent if the task ends meanwhile."""
        self.hold_updates_s = 0.0
        """How long all statuses are collected, until 64 wait, so that fewer messages are sent."""
        self._token = _variable(environ, "OFFERD_TOKEN")
        self._places_tasks = executor.places_tasks and TASK_CGROUPS in environ
        self._recovery_timeout_s = _seconds(environ, "OFFERD_RECOVERY_TIMEOUT_S", DEFAULT_RECOVERY_TIMEOUT_S)
        self._tasks: dict[TaskID, _Task] = {}
        self._statuses = StatusQueue()
        self._registered = False
        self._was_registered = False
        self._stop_by: float | None = None
        self._exit_status = 0
        self._recovery: Timer | None = None
        self._loop = Loop()
        self.add_reader = self._loop.add_reader
        """`add_reader(fd, callback)`: call `callback()` whenever the descriptor can be read or is at its end."""
        self.remove_reader = self._loop.remove_reader
        """`remove_reader(fd)`: watch the descriptor no more. Call it before closing the descriptor."""
        self.call_later = self._loop.call_later
        """`call_later(delay_s, callback)`: call `callback()` once, in so many seconds. Returns a timer, which has `cancel()`.
        """
        self.call_soon = self._loop.call_soon
        """`call_soon(callback)`: call `callback()` once, at the end of this turn of the loop."""
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._client: Client[codec.ToExecutor] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.LaunchTask: self._on_launch_task,
            m.UpdatesStored: self._on_updates_stored,
            m.KillTask: self._on_kill_task,
            m.ExecutorRegistered: self._on_executor_registered,
            m.FrameworkMessage: self._on_framework_message,
            m.Shutdown: self._on_shutdown,
            m.NotRegistered: self._on_not_registered,
        }

    # -- For the executor
    # ---------------------------------------------------------------------------------------

    def send_status(
        self,
        task_id: str,
        state: m.TaskState,
        *,
        data: bytes = b"",
        message: str = "",
        reason: str = "",
        exit_status: int | None = None,
        usage: m.TaskUsage | None = None,
        output: m.TaskOutput | None = None,
    ) -> None:
        """Report a task's state, from any thread. It reaches the scheduler at least once, however often the slave is restarted.

        The other arguments are the fields of `TaskStatus`. A status of a task that has ended, or was never launched here, is
        dropped. Raises `MessageTooLarge` if data and message have more than 512 KiB: put the data into a file of the sandbox.
        """
        message = readable(message)
        if len(data) + 4 * len(message) > MAX_STATUS_BYTES:  # up to four bytes each in UTF-8
            raise MessageTooLarge(
                f"the status of task {task_id} carries {len(data)} bytes, more than {MAX_STATUS_BYTES}; "
                "put the data into a file of the sandbox"
            )
        if not self._loop.is_own_thread():
            self._loop.call_from_thread(
                lambda: self.send_status(
                    task_id,
                    state,
                    data=data,
                    message=message,
                    reason=reason,
                    exit_status=exit_status,
                    usage=usage,
                    output=output,
                )
            )
            return
        task_id = TaskID(task_id)
        task = self._tasks.get(task_id)
        if task is None:
            return
        task.sequence += 1
        status = m.TaskStatus(
            task_id, state, task.sequence, reason, "executor", message, data, exit_status, "", usage,
            time.time(), self.slave_id, self.executor_id, self.container_id, output,
        )  # fmt: skip
        if state.terminal:
            del self._tasks[task_id]
        self._statuses.put(status, time.monotonic())

    def send_framework_message(self, data: bytes) -> None:
        """Send bytes to the framework's scheduler, from any thread. Best effort: they may be lost. A slave forwards 8 MiB of
        one framework at once, then 1 MiB a second. Raises `MessageTooLarge` above 512 KiB.
        """
        if len(data) > MAX_STATUS_BYTES:
            raise MessageTooLarge(f"a framework message of {len(data)} bytes; the most is {MAX_STATUS_BYTES}")
        if not self._loop.is_own_thread():
            self._loop.call_from_thread(lambda: self.send_framework_message(data))
        elif self._registered and self._client is not None:
            self._client.send(m.FrameworkMessage(self.framework_id, self.slave_id, self.executor_id, data))

    def stop(self) -> None:
        """Make `run()` return once the slave has stored all statuses, or after 5 s. From any thread."""
        if not self._loop.is_own_thread():
            self._loop.call_from_thread(self.stop)
        elif self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_LINGER_S
            self._loop.call_later(STOP_LINGER_S, _wake)

    def run(self) -> int:
        """Serve until `stop`. Returns the exit status for the process: 1 if no slave came back in time, else 0."""
        self._loop.enter()
        self._context = new_context()
        self._connect()
        try:
            while not self._is_finished():
                self._turn()
        finally:
            self._disconnect()
            self._context.term()
            self._context = None
            self._loop.close()
        return self._exit_status

    # -- The loop
    # -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        # ZeroMQ's descriptor is edge-triggered, and any send or receive may consume the edge. So the socket is asked for its
        # state after the last of them, right before the wait.
        client = self._client
        has_frames = client is not None and _has_frames(client.socket)
        self._loop.turn(0.0 if has_frames else self._max_wait_s(), self._take_orders)
        self._flush()

    def _take_orders(self) -> bool:
        """Handle the slave's messages before other events: a task that was killed by order is then not taken for one that died
        by itself. False if there are more messages.
        """
        if self._client is not None and _has_frames(self._client.socket):
            return self._drain()
        return True

    def _max_wait_s(self) -> float | None:
        return self._statuses.max_wait_s(time.monotonic(), self.hold_running_s, self.hold_updates_s)

    def _drain(self) -> bool:
        """Handle the slave's messages; False if there were enough for one turn."""
        handled = 0
        client = self._client
        if client is None:
            return True
        for _, messages in client.drain():
            for message in messages:
                handler = self._handlers.get(type(message))
                if handler is not None:
                    self._survive(handler, message)
            handled += len(messages)
            if handled >= TURN_MESSAGES:
                return False
        return True

    def _survive(self, handler: Callable[[Any], None], message: Any) -> None:
        """Handle a message from the slave. An error in our handling costs the connection and no more."""
        try:
            handler(message)
        except Exception as error:  # marked: an error out of one message ends no executor
            sys.stderr.write(f"a message from the slave could not be handled: {describe(message, error)}\n")
            self.call_soon(self._lost_slave)

    def _flush(self) -> None:
        client = self._client
        for update in self._statuses.take_due(time.monotonic(), self.hold_running_s, self.hold_updates_s):
            if self._registered and client is not None:
                client.send(update)
        if client is not None and client.flush():
            # Ten thousand frames are queued: reconnect. When the slave reads again, all statuses are sent again.
            self._lost_slave()

    def _is_finished(self) -> bool:
        if self._stop_by is None:
            return False
        if time.monotonic() >= self._stop_by:
            return True
        return self._statuses.is_empty

    # -- The connection
    # -----------------------------------------------------------------------------------------
    #
    # Each new connection is a new socket. If ZeroMQ reconnected the old one, it would first send what was queued for the
    # slave that died, to a slave that has not received our registration. ZeroMQ's monitor reports the loss: heartbeats of our
    # own would need a timer, and ZeroMQ's heartbeats break a connection to a slave that only hangs.

    def _connect(self) -> None:
        assert self._context is not None
        self._client = Client(self._context, self._address, codec.to_executor)
        self._monitor = self._client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        # Frames are read in `_turn`; the descriptor only ends the wait.
        self._loop.add_reader(self._client.socket.fileno(), _wake)
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)
        self._client.send(self._registration())
        self._client.flush()
        if self._recovery is None:
            self._recovery = self._loop.call_later(self._recovery_timeout_s, self._give_up)
        # A socket's descriptor reports nothing until the socket was read once and found empty.
        self._on_monitor()

    def _registration(self) -> m.RegisterExecutor:
        task_ids: list[TaskID] = []
        size = 0
        for task_id in self._known_tasks():
            size += len(codec.encode_message(task_id))
            if size > REGISTER_IDS_BYTES:
                sys.stderr.write(
                    f"more tasks than a registration can name: all after the first {len(task_ids)} may be lost\n"
                )
                break
            task_ids.append(task_id)
        statuses: list[m.TaskStatus] = []
        for update in self._statuses.unacknowledged:
            size += len(codec.encode_message(update.status))
            if size > REGISTER_BYTES:
                break
            statuses.append(update.status)
        return m.RegisterExecutor(
            self.container_id, self._token, statuses, task_ids, places_tasks=self._places_tasks
        )

    def _known_tasks(self) -> Iterable[TaskID]:
        """All tasks that this executor still has: those that run, and those whose last status the slave may not have stored."""
        return dict.fromkeys([*self._tasks, *self._statuses.task_ids()])

    def _disconnect(self) -> None:
        client, monitor = self._client, self._monitor
        if client is None or monitor is None:
            return
        self._client = self._monitor = None
        self._registered = False
        self._loop.remove_reader(client.socket.fileno())
        self._loop.remove_reader(monitor.fileno())
        client.socket.disable_monitor()
        monitor.close()
        client.close()

    def _on_monitor(self) -> None:
        while self._monitor is not None and _has_frames(self._monitor):
            # The event number is the first 16 bits. `zmq.utils.monitor` would import asyncio to read it: 37 ms.
            event = int.from_bytes(self._monitor.recv_multipart(zmq.NOBLOCK)[0][:2], sys.byteorder)
            if event == zmq.EVENT_DISCONNECTED:
                self._lost_slave()
                return

    def _lost_slave(self) -> None:
        self._drain()  # its last messages may hold a task
        if self._client is None:
            return
        self._disconnect()
        self._guarded(lambda: self._executor.disconnected(self))
        self._loop.call_later(RECONNECT_DELAY_S, self._reconnect)

    def _reconnect(self) -> None:
        if self._client is None:
            self._connect()

    def _give_up(self) -> None:
        self._exit_status = 1
        sys.stderr.write(
            f"the slave did not come back within {self._recovery_timeout_s:g} s: this executor ends\n"
        )
        self._shut_down(DEFAULT_GRACE_S)

    # -- Messages from the slave: each method handles the message that it is named after
    # ----------------------------------

    def _on_executor_registered(self, message: m.ExecutorRegistered) -> None:
        self.slave_id = message.slave_id
        self.sandbox = unpacked(message.sandbox) or self.sandbox
        self._registered = True
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        if self._client is not None:
            for update in self._statuses.unacknowledged:
                self._client.send(update)
        if not self._was_registered:
            self._was_registered = True
            self._guarded(
                lambda: self._executor.registered(
                    self, message.framework, message.executor, message.slave_id, self.sandbox
                )
            )
        else:
            self._guarded(lambda: self._executor.reregistered(self, message.slave_id))

    def _on_launch_task(self, message: m.LaunchTask) -> None:
        task = message.task
        if task.task_id in self._tasks:
            return  # sent again by a slave that was restarted
        self._tasks[task.task_id] = _Task(task.kill_grace_s)
        try:
            self._executor.launch_task(self, unpacked_task(task))
        except Exception:  # marked: the executor's own code; it costs that task only
            self._fail(task.task_id)

    def _on_kill_task(self, message: m.KillTask) -> None:
        task = self._tasks.get(message.task_id)
        if task is None:
            return  # its last status has been sent
        grace_s = task.grace_s if message.grace_s is None else message.grace_s
        try:
            self._executor.kill_task(self, message.task_id, grace_s)
        except Exception:  # marked: the executor's own code; it costs that task only
            self._fail(message.task_id)

    def _on_updates_stored(self, message: m.UpdatesStored) -> None:
        self._statuses.stored(message.number)

    def _on_framework_message(self, message: m.FrameworkMessage) -> None:
        self._guarded(lambda: self._executor.framework_message(self, message.data))

    def _on_not_registered(self, message: m.NotRegistered) -> None:
        # Later: the frames of this connection are still being read, and this closes it.
        client = self._client
        self._loop.call_soon(lambda: self._lost_slave() if self._client is client else None)

    def _on_shutdown(self, message: m.Shutdown) -> None:
        self._shut_down(message.grace_s)

    def _shut_down(self, grace_s: float) -> None:
        self._loop.call_later(grace_s + SHUTDOWN_SLACK_S, self.stop)
        self._guarded(lambda: self._executor.shutdown(self, grace_s))

    def _fail(self, task_id: TaskID) -> None:
        text = traceback.format_exc()
        sys.stderr.write(text)
        self.send_status(
            task_id, m.TaskState.FAILED, reason=m.Reason.EXECUTOR_RAISED, message=text[-(64 << 10) :]
        )

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # marked: the executor's own code; the driver and its tasks go on
            sys.stderr.write(traceback.format_exc())


def _wake() -> None:
    """Does nothing: the call itself ends the loop's wait."""


def _has_frames(socket: zmq.Socket[bytes]) -> bool:
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _variable(environ: Mapping[str, str], name: str) -> str:
    try:
        return environ[name]
    except KeyError:
        raise BadInput(f"{name} is not set: an executor is started by a slave, not by hand") from None


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise BadInput(f"{name} is {text!r}: write a number of seconds") from None
