"""A fork of the shim becomes the executor. When its code begins, nothing of the shim, the zygote or the slave is left.

Its stdout and stderr are pipes to the shim, its stdin is empty, its directory is the sandbox, its environment is only what
the launch request says, its signals are as after an exec, and it has the rights of the task's user for good.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from offerd.values.screen_text import printable
from offerd.wire.posix_text import raw
from offerd_isolation.marks import CONTAINER_MARK, TASK_MARK
from offerd_linux import capabilities, inherited, namespaces, prctl
from offerd_linux.memory import expose_to_oom_killer
from offerd_linux.scripts import as_script
from offerd_linux.start_area import StartArea
from offerd_slave.launch import syscall_filter
from offerd_slave.launch.messages import LaunchRequest
from offerd_slave.launch.spawner import start_spawner

UMASK = 0o022
"""Umask of executors and of what they start. Other users are kept out by the sandbox's mode."""
EXIT_NOT_STARTED = 127
"""Exit status of an executor that could not be started, as in shells."""
STREAMS = "offerd.tasks.standard_streams"
"""A module that executors need and shims do not. It is imported while the fork still has the slave's rights and files, as the
task's user may be unable to read the slave's Python.
"""


class Place(NamedTuple):
    """Descriptors of the places that the executor enters: its sandbox, the container's process (a pidfd; -1 for none), and the
    `cgroup.procs` files that it joins."""

    sandbox: int
    container: int = -1
    cgroups: Sequence[int] = ()


def become_executor(request: LaunchRequest, place: Place, outputs: Sequence[int], trouble: int) -> None:
    """Become the executor. For a module this returns, and the caller calls `run_module` at the top of the stack; for a command
    it execs.

    If something goes wrong, the reason is written to `trouble`, which a successful exec closes.
    """
    try:
        os.setsid()
        take_root(request)
        expose_to_oom_killer()
        if request.module:
            importlib.import_module(STREAMS)
        if place.container >= 0:
            enter_container(request, place)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target)
        spawner = start_spawner(request) if request.module and request.enter is None else None
        drop_privileges(request)
        os.umask(UMASK)
        if place.container >= 0:
            syscall_filter.install()
            capabilities.drop_capabilities()
            os.chdir(
                raw(request.sandbox)
            )  # not fchdir: a directory of the host would be a way out of the container
        else:
            os.fchdir(place.sandbox)
        inherited.close_all_but({trouble, spawner})
        inherited.reset_signals()
    except (OSError, ImportError) as error:
        os.write(trouble, f"executor not set up: {error}".encode())
        os._exit(EXIT_NOT_STARTED)
    if request.module:
        return
    try:
        argv = list(map(raw, request.argv))
        environment = environment_of(request)
        try:
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            words = as_script(argv[0], argv, error)
            os.execve(words[0], words, environment)
    except (OSError, ValueError) as error:  # ValueError: a NUL or a `=` where none is allowed
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(trouble, f"{printable(request.argv[0])}: cannot be run: {reason}".encode(errors="replace"))
        os._exit(EXIT_NOT_STARTED)


def enter_container(request: LaunchRequest, place: Place) -> None:
    """Join the container's cgroups and namespaces. The executor's module is imported first, as the image does not have it.

    The process is made undumpable, so that processes in the container can read neither its memory nor /proc/PID/exe, which is
    a file of the host.
    """
    prctl.set_dumpable(False)
    for fd in place.cgroups:
        os.write(fd, b"0")
    if request.module:
        importlib.import_module(request.module)
    namespaces.setns(
        place.container,
        namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWCGROUP
        | namespaces.CLONE_NEWNS,
    )
    capabilities.forgo_capabilities()


def take_root(request: LaunchRequest) -> None:
    """Make root the effective user again. A shim's effective user is the task's."""
    if request.credentials is not None:
        os.seteuid(0)
        os.setegid(0)


def drop_privileges(request: LaunchRequest) -> None:
    """Become the task's user for good: no uid, gid or group of the slave stays, and no setuid program gives one back."""
    if request.credentials is not None:
        uid, gid, groups = request.credentials
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    prctl.forbid_new_privileges()


def run_module(request: LaunchRequest, trouble: int, area: StartArea) -> None:
    """Run `module.main()` in this process, as if Python had just been started for it. Raises `SystemExit`, and what that
    raises."""
    os.environ.clear()
    os.environb.update(environment_of(request))
    # Otherwise /proc/PID would still show the shim's title and marks.
    area.write(f"offerd-executor {request.module}", marks_of(request.environment))
    prctl.set_name(b"offerd-executor")
    # The change of uid gave /proc/self to root. As there is no exec, which would undo that, it is undone here.
    prctl.set_dumpable(request.enter is None)
    sys.argv = [request.module, *map(os.fsdecode, map(raw, request.argv))]
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gc.enable()
    try:
        use_standard_streams()
        main = importlib.import_module(request.module).main
    except (ImportError, AttributeError, OSError) as error:
        why = unreadable_python() or error
        os.write(trouble, f"{request.module}: cannot be run: {why}".encode(errors="replace"))
        raise
    finally:
        os.close(trouble)
    sys.exit(main())


def use_standard_streams() -> None:
    """Replace the zygote's sys.stdin, stdout and stderr, which were made for other descriptors. Raises `ImportError`."""
    text_stream = importlib.import_module(STREAMS).text_stream
    encoding = sys.stdout.encoding
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = text_stream(1, "<stdout>", encoding=encoding, errors="surrogateescape", line_buffering=True)
    sys.stderr = text_stream(2, "<stderr>", encoding=encoding, errors="backslashreplace", line_buffering=True)


def unreadable_python() -> str:
    """A line that says which part of the slave's Python this user cannot read; empty if it can read all."""
    for file in (__file__, os.__file__, str(sys.modules["msgspec"].__file__)):
        if path := first_closed(file):
            user = os.environ.get("LOGNAME") or f"uid {os.getuid()}"
            return f"{user} cannot read {path}, where this slave's Python is; install offerd where every user can read it"
    return ""


def first_closed(file: str) -> str:
    """The first directory of this path that may not be entered, or the file if it may not be read; else empty."""
    parts = os.path.realpath(file).split("/")
    ways = ["/".join(parts[:number]) for number in range(2, len(parts) + 1)]
    return next((way for way in ways if not os.access(way, os.R_OK if way == ways[-1] else os.X_OK)), "")


def environment_of(request: LaunchRequest) -> dict[bytes, bytes]:
    """The environment as bytes. Raises `ValueError` for text that was not packed (`offerd.wire.posix_text`)."""
    return {raw(name): raw(value) for name, value in request.environment.items()}


def marks_of(environment: dict[str, str]) -> dict[str, str]:
    """Only the variables by which isolation modules recognize a process; others, which may be secrets, are not shown."""
    return {name: environment[name] for name in (CONTAINER_MARK, TASK_MARK) if name in environment}
