"""Starts programs for the command executor, whatever the way of making a process.

If tasks have cgroups of their own, the spawner that the slave provides (`spawner_client`) starts a program in its task's
cgroup; otherwise posix_spawn starts it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from offerd.ids import TaskID
from offerd.protocol.spawner_messages import SPAWNER
from offerd.tasks.task_cgroups import TASK_CGROUPS
from offerd.wire.posix_text import bytes_of, word_of
from offerd_executors.spawner_client import SpawnerClient
from offerd_linux.scripts import as_script

SECRETS = ("OFFERD_TOKEN", "OFFERD_SLAVE_SOCKET", SPAWNER, TASK_CGROUPS)
"""Variables of the executor's environment that its tasks must not get: with them one can speak to the slave in its name."""
UMASK = 0o022
"""The umask of a program whose task names none, as in a login shell."""
_found: dict[tuple[bytes, bytes], bytes] = {}
_FOUND_KEPT = 1024
_FIRST_LINE_BYTES = 256
"""As many bytes as the kernel reads."""


class Programs:
    """Starts programs, each in a session of its own and with nothing on its standard input."""

    def __init__(self, spawner: SpawnerClient | None = None) -> None:
        self._spawner = spawner
        # Signals that are ignored here (SIGPIPE and SIGXFSZ by Python, perhaps more by a parent) would be ignored in the child,
        # too; handlers are not inherited. Resetting all 62 signals would cost 10 us a spawn.
        self._options: dict[str, Any] = {"setsigdef": _ignored_signals()}
        """Options for posix_spawn."""

    def interrupt_no_task(self) -> None:
        """Do not preempt a running task when the calling process is woken: use the policy SCHED_BATCH (sched(7)) for it, and
        the usual policy for tasks. It is mostly woken by the end of a task; another task then goes on with warm caches, so many
        short tasks cost less each.
        """
        usual = os.sched_param(0)
        with contextlib.suppress(OSError):  # a system call filter, or a kernel or libc without policies
            if os.sched_getscheduler(0) != os.SCHED_OTHER:
                return  # somebody has chosen a policy, also for the tasks
            os.sched_setscheduler(0, os.SCHED_BATCH, usual)
            self._options["scheduler"] = (os.SCHED_OTHER, usual)

    def start(
        self,
        task_id: TaskID,
        argv: list[str],
        env: Mapping[str, str],
        cwd: str,
        stdout: int,
        stderr: int,
        mem_bytes: int | None = None,
        umask: int = UMASK,
    ) -> int:
        """Start `argv` in `cwd`, and in the task's cgroup if it has one, where its memory limit is `mem_bytes`. Returns its
        pid. Words are as in `offerd.wire.posix_text`.

        Changes the caller's working directory to `cwd`: Python's posix_spawn cannot set it (glibc's can, since 2.29), and a
        PATH may hold relative directories. Raises `OSError` with the file's name (no such program, no permission, no such
        directory), and `SpawnerDied`.
        """
        directory = bytes_of(cwd)
        os.chdir(directory)
        # Encoded as UTF-8 here, because os.fsencode depends on the locale.
        words = list(map(bytes_of, argv))
        environment = {bytes_of(name): bytes_of(value) for name, value in env.items()}
        spawner = self._spawner
        if spawner is not None:
            return _with_program(
                words,
                environment,
                lambda program, argv: spawner.spawn(
                    task_id, directory, program, argv, environment, stdout, stderr, mem_bytes, umask
                ),
            )
        before = os.umask(umask)
        try:
            return _with_program(
                words,
                environment,
                lambda program, argv: self._spawn(program, argv, environment, stdout, stderr),
            )
        finally:
            os.umask(before)

    def _spawn(
        self, program: bytes, argv: list[bytes], env: Mapping[bytes, bytes], stdout: int, stderr: int
    ) -> int:
        try:
            return _posix_spawn(program, argv, env, stdout, stderr, self._options)
        except PermissionError:
            if "scheduler" not in self._options:
                raise
            # Either the program may not be executed, which fails again; or only root may leave a policy that somebody has set.
            options = {name: value for name, value in self._options.items() if name != "scheduler"}
            return _posix_spawn(program, argv, env, stdout, stderr, options)


def _with_program(
    argv: list[bytes], env: Mapping[bytes, bytes], start: Callable[[bytes, list[bytes]], int]
) -> int:
    """Start the program that the first word names. Where it is found is remembered."""
    name = argv[0]
    path = env.get(b"PATH", os.defpath.encode())
    key = (name, path)
    program = _found.get(key)
    if program is not None:
        try:
            return _start(program, argv, start)
        except FileNotFoundError:
            del _found[key]  # it was moved: look again
    program = find_program(name, path)
    pid = _start(program, argv, start)
    if len(_found) >= _FOUND_KEPT:
        _found.clear()
    if program.startswith(b"/"):  # a relative path leads elsewhere from another task's directory
        _found[key] = program
    return pid


def _start(program: bytes, argv: list[bytes], start: Callable[[bytes, list[bytes]], int]) -> int:
    try:
        return start(program, argv)
    except OSError as error:
        words = as_script(program, argv, error)
    return start(words[0], words)


def _ignored_signals() -> list[int]:
    return [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]


def _posix_spawn(
    program: bytes,
    argv: list[bytes],
    env: Mapping[bytes, bytes],
    stdout: int,
    stderr: int,
    options: dict[str, Any],
) -> int:
    # glibc makes the child with CLONE_VFORK, so the cost does not grow with the executor's memory. All other descriptors of
    # the executor are close-on-exec.
    return os.posix_spawn(
        program,
        argv,
        env,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ),
        setsid=True,
        setsigmask=(),
        **options,
    )


def find_program(name: bytes, path: bytes) -> bytes:
    """The file that a shell would run for `name`: searched along `path` (a PATH) unless `name` has a slash.

    Raises `FileNotFoundError`, or `PermissionError` if there are only files that may not be executed.
    """
    if b"/" in name:
        return name
    forbidden = False
    for directory in path.split(b":"):
        candidate = os.path.join(directory or b".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            forbidden = True
    code = errno.EACCES if forbidden else errno.ENOENT
    raise OSError(code, os.strerror(code), word_of(name))


def why_not_started(error: OSError | ValueError, program: str, directory: str) -> str:
    """Why `Programs.start` could not start a program in this directory, for people."""
    if not isinstance(error, OSError) or not error.strerror:
        return f"{program}: {error}"
    name = error.filename or program
    if isinstance(name, bytes):
        name = word_of(name)
    if name == directory:
        return f"in the directory {name}: {error.strerror}"
    if not name:
        return "a program whose name is empty"
    if error.errno == errno.ENOENT and (interpreter := _interpreter(os.path.join(directory, name))):
        lines = ", as its lines end in CR LF" if interpreter.endswith(b"\r") else ""
        return f"{name}: there is no {word_of(interpreter.rstrip())}, which its first line names{lines}"
    return f"{name}: {error.strerror}"


def _interpreter(path: str) -> bytes:
    """The interpreter that the first line of a script names; empty if the file is not a script."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            first = file.read(_FIRST_LINE_BYTES).partition(b"\n")[0]
    except (OSError, ValueError):
        return b""
    words = first.removeprefix(b"#!").lstrip(b" \t").split(b" ", 1)
    return words[0] if first.startswith(b"#!") else b""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
