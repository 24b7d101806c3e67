"""The shim: one small process between the slave and an executor, so that the slave can die, be upgraded and be restarted.

It is forked by the zygote. It holds the executor's output pipes, writes the logs, waits for the executor, kills what the
executor leaves behind, and records how it ended. It is the container's subreaper: all descendants of the executor stay
below it.

If the executor runs as another user, the shim keeps root as its real and saved uid, and has the user's uid as its effective
one: files that it makes in the sandbox belong to the user, and yet the task can neither kill nor trace it. Only the
executor drops root for good.

    zygote ── fork, into the cgroup ── shim: setsid, subreaper, mark, `shim` file, user, logs ── answer to the slave
                        └─ fork ── executor: setsid, user for good, sandbox, pipes, clean signals ── exec or module
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from offerd.wire.posix_text import raw
from offerd_isolation.marks import SHIM_FILE, SHIM_MARK
from offerd_linux import memory, namespaces, prctl, processes
from offerd_linux.process_ids import ProcessID
from offerd_linux.start_area import StartArea
from offerd_slave.directory_walk import OPEN_DIRECTORY
from offerd_slave.launch.executor_entry import Place, become_executor, marks_of, take_root
from offerd_slave.launch.logs import RotatedLog
from offerd_slave.launch.messages import Answer, LaunchRequest, ShimFailed, ShimStarted
from offerd_slave.records import ExitRecord

EXIT_FILE = "exit"
_EXIT_DRAFT = ".exit"
EXIT_BYTES = 2048
"""Size of an exit record, padded with blanks. It is allocated at the start, as the disk may be full at the end."""
MAX_MESSAGE_LETTERS = 250

IGNORED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTSTP, signal.SIGXFSZ,
)  # fmt: skip
"""Ignored signals. A shim ends when its executor has ended: the slave ends executors by a message, then by the isolation
module."""

_encode = msgspec.msgpack.Encoder().encode


class ShimFiles:
    """The files that the zygote opens for a shim, as the slave's user. If one cannot be opened, the launch fails at once."""

    def __init__(self, request: LaunchRequest) -> None:
        self.container_dir = self.sandbox = self.cgroup = self.enter = -1
        self.enter_cgroups: list[int] = []
        try:
            self.container_dir = os.open(raw(request.container_dir), OPEN_DIRECTORY)
            self.sandbox = os.open(raw(request.sandbox), OPEN_DIRECTORY)
            if request.cgroup:
                self.cgroup = os.open(request.cgroup, OPEN_DIRECTORY)
            if request.enter is not None:
                pidfd = processes.open_pidfd(request.enter.pid, request.enter.start_ticks)
                if pidfd is None:
                    raise ProcessLookupError(errno.ESRCH, "its container has ended")
                self.enter = pidfd
                for directory in request.enter.cgroups:
                    self.enter_cgroups.append(
                        os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
                    )
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close what is open."""
        for fd in (self.container_dir, self.sandbox, self.cgroup, self.enter, *self.enter_cgroups):
            if fd >= 0:
                os.close(fd)


class ModuleToRun(NamedTuple):
    """An executor that runs a module: passed back to the top of the stack, where the module is run."""

    request: LaunchRequest
    trouble: int


def run_shim(
    request: LaunchRequest, files: ShimFiles, slave: int, area: StartArea, droppable: list[memory.Area]
) -> ModuleToRun | None:
    """Be the shim, in a process that was just forked. Returns only in an executor that runs a module, a fork of the shim.

    `area` and `droppable` describe memory areas, which are the same in every fork.
    """
    try:
        shim = _Shim(request, files, slave)
        shim.claim(area)
        shim.set_up()
        if (module := shim.start_executor()) is not None:
            return module
        memory.drop_pages(droppable)
        shim.serve()
        os._exit(0)
    except BaseException as error:  # marked: a broken shim must leave a trace, and has no stderr
        if os.getuid() == 0:
            os.seteuid(0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        trace = os.open("shim.err", flags, 0o600, dir_fd=files.container_dir)
        os.write(trace, describe(error).encode())
        os._exit(1)


def describe(error: BaseException) -> str:
    """The error and where it was raised, a line for each frame; the traceback module takes too much memory in each shim."""
    lines = [f"{type(error).__name__}: {error}"]
    trace = error.__traceback__
    while trace is not None:
        lines.append(f"  {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return "\n".join(lines) + "\n"


class _Shim:
    def __init__(self, request: LaunchRequest, files: ShimFiles, slave: int) -> None:
        self.request = request
        self.files = files
        self.slave = slave
        self.executor_pid = 0
        self.exit_status: int | None = None
        self.message = ""
        self.logs: list[RotatedLog] = []
        self.log_writers: list[int] = []

    # -- becoming a shim --------------------------------------------------------------------------------------------

    def claim(self, area: StartArea) -> None:
        """Become the container's only shim. If it has one already (the launch was repeated), answer with that one and end."""
        # Before the mark: a marked process in the zygote's session would make the zygote part of the container.
        os.setsid()
        prctl.become_subreaper()
        prctl.set_name(b"offerd-shim")
        marks = {SHIM_MARK: str(os.getpid()), **marks_of(self.request.environment)}
        area.write(f"offerd-shim {self.request.container_id}", marks)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        process = processes.read(os.getpid())
        assert process is not None, "this process is not in /proc"
        self.process = ProcessID(processes.boot_id(), process.pid, process.start_ticks)
        if (owner := self.take_shim_file()) != self.process:
            self.answer(ShimStarted(self.request.container_id, owner))
            os._exit(0)

    def take_shim_file(self) -> ProcessID:
        """Create the `shim` file if it does not exist; returns the process that it names."""
        directory = self.files.container_dir
        draft = f".shim.{os.getpid()}"
        # Written under another name and then linked: link fails if the name exists, and the file is complete.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
        os.write(fd, msgspec.json.encode(self.process._asdict()))
        os.close(fd)
        try:
            os.link(draft, SHIM_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError:
            fd = os.open(SHIM_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            owner = ProcessID(**msgspec.json.decode(os.read(fd, 4096)))
            os.close(fd)
        else:
            owner = self.process
        os.unlink(draft, dir_fd=directory)
        return owner

    def set_up(self) -> None:
        """Do everything that can fail because of the host or the launch request; a failure is answered to the slave."""
        try:
            self.draft = os.open(
                _EXIT_DRAFT,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o600,
                dir_fd=self.files.container_dir,
            )
            os.write(self.draft, b" " * EXIT_BYTES)
            if self.files.enter >= 0:
                namespaces.setns(
                    self.files.enter, namespaces.CLONE_NEWPID
                )  # for children; the shim stays outside
            os.umask(0o077)
            if self.request.credentials is not None:
                os.setgroups(self.request.credentials.groups)
                os.setegid(self.request.credentials.gid)
                os.seteuid(self.request.credentials.uid)
            for name in ("stdout", "stderr"):
                reader, writer = os.pipe()
                self.logs.append(RotatedLog(reader, self.files.sandbox, name, self.request.log_bytes))
                self.log_writers.append(writer)
        except OSError as error:
            self.answer(ShimFailed(self.request.container_id, f"container not set up: {error}"))
            os._exit(1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (
            0,
            1,
            2,
        ):  # inherited from the slave: a reader of the slave's output must not wait for the shim's end
            os.dup2(null, fd)
        os.close(null)
        # Before there is a child, so that its end is not missed.
        self.wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.answer(ShimStarted(self.request.container_id, self.process))

    def answer(self, message: Answer) -> None:
        """Send the only answer to the launch request."""
        # It fails if the slave has just died: the next slave process finds this shim by its file.
        with suppress(BrokenPipeError, ConnectionResetError):
            os.write(self.slave, _encode(message))
        os.close(self.slave)

    def start_executor(self) -> ModuleToRun | None:
        """Fork the executor. Returns something only in the fork, and only for a module."""
        # The executor writes errors to this pipe. A successful exec closes it.
        self.trouble, trouble = os.pipe()
        self.executor_pid = os.fork()
        if self.executor_pid == 0:
            place = Place(self.files.sandbox, self.files.enter, self.files.enter_cgroups)
            become_executor(self.request, place, self.log_writers, trouble)
            return ModuleToRun(self.request, trouble)
        for fd in (trouble, *self.log_writers):
            os.close(fd)
        if self.files.enter >= 0:
            for fd in (self.files.enter, *self.files.enter_cgroups):
                os.close(fd)
        return None

    # -- serving ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Copy output and reap children until the executor and everything below has ended; then write the exit record."""
        handlers: dict[int, Callable[[], bool]] = {self.wake: self.reap, self.trouble: self.read_trouble}
        for log in self.logs:
            handlers[log.pipe] = lambda log=log: log.pump() != 0  # type: ignore[misc]
        poller = select.poll()
        for fd in handlers:
            poller.register(fd, select.POLLIN)
        while self.exit_status is None or self.kill_rest():
            for fd, _ in poller.poll():
                if not handlers[fd]():
                    poller.unregister(fd)
        for log in self.logs:
            log.drain()
        os.set_blocking(self.trouble, False)
        self.write_record(self.exit_status)

    def read_trouble(self) -> bool:
        """Read why the executor could not be started. False at the end of the pipe."""
        text = os.read(self.trouble, 4096)
        self.message += text.decode(errors="replace")
        return bool(text)

    def reap(self) -> bool:
        """Reap the children that have ended: the executor, and orphans of its process tree."""
        os.read(self.wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return True
            if pid == self.executor_pid:
                self.exit_status = os.waitstatus_to_exitcode(status)

    def kill_rest(self) -> bool:
        """Kill the processes that the executor has left; False if there are none.

        When one of them dies, the shim becomes the parent of its children, and it gets a SIGCHLD for each child that ends.
        Then it looks again: so no process is missed, and no timer is needed.
        """
        take_root(self.request)
        if not processes.children(os.getpid()):
            return False
        processes.kill_all(processes.descendants(os.getpid()))
        return True

    def write_record(self, exit_status: int) -> None:
        """Write the exit record atomically, and sync it to the disk."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = ExitRecord(
            exit_status=exit_status,
            message=self.message[:MAX_MESSAGE_LETTERS],
            cpu_s=round(used.ru_utime + used.ru_stime, 6),
            peak_mem_bytes=used.ru_maxrss * 1024,  # the largest process alone
        )
        os.pwrite(self.draft, msgspec.json.encode(record), 0)
        os.fsync(self.draft)
        directory = self.files.container_dir
        os.rename(_EXIT_DRAFT, EXIT_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
