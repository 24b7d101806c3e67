"""The shim: one small process between the slave and an executor, so that the slave may die, be upgraded and come back.

Forked from the zygote. It holds the executor's output pipes, writes the logs, waits, kills what the executor leaves
behind, and writes down how it ended. It is the container's subreaper: whatever the executor's tree does, it stays below.

With a user to run as, the shim keeps root as its real and saved uid and takes the user's as its effective one: files it
makes in the sandbox are the user's, with the user's rights, and yet the task can neither kill nor trace it. Only the
executor drops for good.

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
from offerd_linux.start_area import StartArea
from offerd_slave.launch.executor_entry import Place, become_executor, marks_of, take_root
from offerd_slave.launch.logs import RotatedLog
from offerd_slave.launch.messages import Answer, Job, ShimFailed, ShimIdentity, ShimStarted
from offerd_slave.records import ExitRecord

EXIT_FILE = "exit"
_EXIT_DRAFT = ".exit"
EXIT_BYTES = 2048
"""Room for an exit record, filled up with blanks: taken at the start, so that a full disk cannot keep it from us."""
MAX_MESSAGE_LETTERS = 250

IGNORED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTSTP, signal.SIGXFSZ,
)  # fmt: skip
"""A shim ends when its executor has ended: the slave ends executors by message, and then through the isolation module."""

_encode = msgspec.msgpack.Encoder().encode


class ShimFiles:
    """What the zygote opens for a shim, as the slave's user; what cannot be opened fails the launch at once."""

    def __init__(self, job: Job) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.container_dir = self.sandbox = self.cgroup = self.enter = -1
        self.enter_cgroups: list[int] = []
        try:
            self.container_dir = os.open(raw(job.container_dir), flags)
            self.sandbox = os.open(raw(job.sandbox), flags)
            if job.cgroup:
                self.cgroup = os.open(job.cgroup, flags)
            if job.enter is not None:
                pidfd = processes.open_pidfd(job.enter.pid, job.enter.start_ticks)
                if pidfd is None:
                    raise ProcessLookupError(errno.ESRCH, "its container has ended")
                self.enter = pidfd
                for directory in job.enter.cgroups:
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
    """What the executor of a module returns with, to the top of the zygote's stack."""

    job: Job
    trouble: int


def run_shim(
    job: Job, files: ShimFiles, slave: int, area: StartArea, droppable: list[memory.Area]
) -> ModuleToRun | None:
    """Be the shim, in a process just forked. Returns only in the executor of a module, which is a fork of the shim.

    `area` and `droppable` describe memory, which is the same in every fork.
    """
    try:
        shim = _Shim(job, files, slave)
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
    """The error and where it was raised, in a line each; the traceback module is not worth its memory here."""
    lines = [f"{type(error).__name__}: {error}"]
    trace = error.__traceback__
    while trace is not None:
        lines.append(f"  {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return "\n".join(lines) + "\n"


class _Shim:
    def __init__(self, job: Job, files: ShimFiles, slave: int) -> None:
        self.job = job
        self.files = files
        self.slave = slave
        self.executor_pid = 0
        self.exit_status: int | None = None
        self.message = ""
        self.logs: list[RotatedLog] = []
        self.log_writers: list[int] = []

    # -- becoming a shim --------------------------------------------------------------------------------------------

    def claim(self, area: StartArea) -> None:
        """Become the container's one shim. If it has one already (a repeated launch), answer that one and end."""
        # Before the mark: with it, but still in the zygote's session, we would make the zygote part of the container.
        os.setsid()
        prctl.become_subreaper()
        prctl.set_name(b"offerd-shim")
        marks = {SHIM_MARK: str(os.getpid()), **marks_of(self.job.environment)}
        area.write(f"offerd-shim {self.job.container_id}", marks)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        process = processes.read(os.getpid())
        assert process is not None, "no entry of our own in /proc"
        self.identity = ShimIdentity(processes.boot_id(), process.pid, process.start_ticks)
        if (owner := self.take_shim_file()) != self.identity:
            self.answer(ShimStarted(self.job.container_id, owner))
            os._exit(0)

    def take_shim_file(self) -> ShimIdentity:
        """Whom the `shim` file names, now that it exists: us, or whoever was first."""
        directory = self.files.container_dir
        draft = f".shim.{os.getpid()}"
        # Written first and linked then: link fails if the name exists, and what has the name is whole.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
        os.write(fd, msgspec.json.encode(self.identity))
        os.close(fd)
        try:
            os.link(draft, SHIM_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError:
            fd = os.open(SHIM_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            owner = msgspec.json.decode(os.read(fd, 4096), type=ShimIdentity)
            os.close(fd)
        else:
            owner = self.identity
        os.unlink(draft, dir_fd=directory)
        return owner

    def set_up(self) -> None:
        """All that can fail because of the host or of the launch; whatever it is, it is the answer to the slave."""
        try:
            self.draft = os.open(
                _EXIT_DRAFT,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o600,
                dir_fd=self.files.container_dir,
            )
            os.write(self.draft, b" " * EXIT_BYTES)
            if self.files.enter >= 0:
                namespaces.setns(self.files.enter, namespaces.CLONE_NEWPID)  # of our children; we stay
            os.umask(0o077)
            if self.job.identity is not None:
                os.setgroups(self.job.identity.groups)
                os.setegid(self.job.identity.gid)
                os.seteuid(self.job.identity.uid)
            for name in ("stdout", "stderr"):
                reader, writer = os.pipe()
                self.logs.append(RotatedLog(reader, self.files.sandbox, name, self.job.log_bytes))
                self.log_writers.append(writer)
        except OSError as error:
            self.answer(ShimFailed(self.job.container_id, f"container not set up: {error}"))
            os._exit(1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # they are the slave's: whoever reads its output must not wait for us to end
            os.dup2(null, fd)
        os.close(null)
        # Before there is a child: its end must not be missed.
        self.wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.answer(ShimStarted(self.job.container_id, self.identity))

    def answer(self, message: Answer) -> None:
        """The launch's one answer."""
        # Refused if the slave has just died: its successor finds us by our mark.
        with suppress(BrokenPipeError, ConnectionResetError):
            os.write(self.slave, _encode(message))
        os.close(self.slave)

    def start_executor(self) -> ModuleToRun | None:
        """Fork it. Returns something only in the fork, and only for a module."""
        # An exec closes it, so its end says that the executor runs; before that it says what went wrong.
        self.trouble, trouble = os.pipe()
        self.executor_pid = os.fork()
        if self.executor_pid == 0:
            place = Place(self.files.sandbox, self.files.enter, self.files.enter_cgroups)
            become_executor(self.job, place, self.log_writers, trouble)
            return ModuleToRun(self.job, trouble)
        for fd in (trouble, *self.log_writers):
            os.close(fd)
        if self.files.enter >= 0:
            for fd in (self.files.enter, *self.files.enter_cgroups):
                os.close(fd)
        return None

    # -- serving ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Copy output and wait, until the executor and everything below has ended; then write the record."""
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
        """Why the executor does not run. False at the end."""
        text = os.read(self.trouble, 4096)
        self.message += text.decode(errors="replace")
        return bool(text)

    def reap(self) -> bool:
        """Wait for whoever has ended: the executor, and orphans of its tree."""
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
        """Kill what the executor has left below us; False if there is nothing.

        Whoever dies below us makes us the parent of its children, and each of our children's ends is told to us
        (SIGCHLD), after which we look again: so nothing is missed, and nothing is polled for.
        """
        take_root(self.job)
        if not processes.children(os.getpid()):
            return False
        processes.kill_all(processes.descendants(os.getpid()))
        return True

    def write_record(self, exit_status: int) -> None:
        """Put the exit record under its name, whole and on the disk."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = ExitRecord(
            exit_status=exit_status,
            message=self.message[:MAX_MESSAGE_LETTERS],
            cpu_s=round(used.ru_utime + used.ru_stime, 6),
            peak_mem_bytes=used.ru_maxrss * 1024,  # of the largest process
        )
        os.pwrite(self.draft, msgspec.json.encode(record), 0)
        os.fsync(self.draft)
        directory = self.files.container_dir
        os.rename(_EXIT_DRAFT, EXIT_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
