"""From a fork of the shim to the executor: nothing of the shim's, the zygote's or the slave's is left when its code begins.

Its stdout and stderr are the shim's pipes, its stdin is empty, its directory is the sandbox, its environment is what the
launch says and nothing else, its signals are as after an exec, and it has the task user's rights for good.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from offerd.wire.posix_text import raw
from offerd.wire.screen_text import printable
from offerd.wire.spawner_messages import as_script
from offerd_isolation.marks import CONTAINER_MARK, TASK_MARK
from offerd_linux import capabilities, inherited, namespaces, prctl
from offerd_linux.memory import expose_to_oom_killer
from offerd_linux.start_area import StartArea
from offerd_slave.launch import syscall_filter
from offerd_slave.launch.messages import Job
from offerd_slave.launch.spawner import start_spawner

UMASK = 0o022
"""Of executors and what they start; their sandbox keeps others out."""
EXIT_NOT_STARTED = 127
"""Exit status of an executor that could not be started, as shells have it."""
STREAMS = "offerd.tasks.standard_streams"
"""Imported by who becomes an executor, as it is no part of a shim, while it still has the slave's rights and files: the task's
user need not reach our Python.
"""


class Place(NamedTuple):
    """Where the executor is to be: its sandbox; or in a container, by a pidfd and the `cgroup.procs` that it joins."""

    sandbox: int
    container: int = -1
    cgroups: Sequence[int] = ()


def become_executor(job: Job, place: Place, outputs: Sequence[int], trouble: int) -> None:
    """Returns for a module (call `run_module` then, at the top of the stack); a command never comes back.

    What goes wrong is written to `trouble`, which is closed by a successful exec.
    """
    try:
        os.setsid()
        take_root(job)
        expose_to_oom_killer()
        if job.module:
            importlib.import_module(STREAMS)
        if place.container >= 0:
            enter_container(job, place)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target)
        spawner = start_spawner(job) if job.module and job.enter is None else None
        drop_privileges(job)
        os.umask(UMASK)
        if place.container >= 0:
            syscall_filter.install()
            capabilities.drop_capabilities()
            os.chdir(raw(job.sandbox))  # a descriptor from outside would leave the way back open
        else:
            os.fchdir(place.sandbox)
        inherited.close_all_but({trouble, spawner})
        inherited.reset_signals()
    except (OSError, ImportError) as error:
        os.write(trouble, f"executor not set up: {error}".encode())
        os._exit(EXIT_NOT_STARTED)
    if job.module:
        return
    try:
        argv = list(map(raw, job.argv))
        environment = environment_of(job)
        try:
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            words = as_script(argv[0], argv, error)
            os.execve(words[0], words, environment)
    except (OSError, ValueError) as error:  # ValueError: a NUL or an `=` where none may be
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(trouble, f"{printable(job.argv[0])}: cannot be run: {reason}".encode(errors="replace"))
        os._exit(EXIT_NOT_STARTED)


def enter_container(job: Job, place: Place) -> None:
    """Its cgroups and all its namespaces. What our own module needs is imported before: the image has nothing of ours.

    Not dumpable, we show those inside neither our memory nor /proc/PID/exe, which is a file of the host.
    """
    prctl.set_dumpable(False)
    for fd in place.cgroups:
        os.write(fd, b"0")
    if job.module:
        importlib.import_module(job.module)
    namespaces.setns(
        place.container,
        namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWCGROUP
        | namespaces.CLONE_NEWNS,
    )
    capabilities.forgo_capabilities()


def take_root(job: Job) -> None:
    """The shim's effective user is the task's already."""
    if job.identity is not None:
        os.seteuid(0)
        os.setegid(0)


def drop_privileges(job: Job) -> None:
    """For good: no uid, gid or group of the slave stays, and no setuid program gives one back."""
    if job.identity is not None:
        uid, gid, groups = job.identity
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    prctl.forbid_new_privileges()


def run_module(job: Job, trouble: int, area: StartArea) -> None:
    """`module.main()` in this process, as if Python had just been started for it. Raises what it raises, and `SystemExit`."""
    os.environ.clear()
    os.environb.update(environment_of(job))
    # The kernel would go on showing the shim's marks.
    area.write(f"offerd-executor {job.module}", marks_of(job.environment))
    prctl.set_name(b"offerd-executor")
    # Changing uid made /proc/self root's; after an exec it would be ours again.
    prctl.set_dumpable(job.enter is None)
    sys.argv = [job.module, *map(os.fsdecode, map(raw, job.argv))]
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gc.enable()
    try:
        use_standard_streams()
        main = importlib.import_module(job.module).main
    except (ImportError, AttributeError, OSError) as error:
        why = unreadable_python() or error
        os.write(trouble, f"{job.module}: cannot be run: {why}".encode(errors="replace"))
        raise
    finally:
        os.close(trouble)
    sys.exit(main())


def use_standard_streams() -> None:
    """In place of the zygote's own, which say nothing about these descriptors. Raises `ImportError`."""
    text_stream = importlib.import_module(STREAMS).text_stream
    encoding = sys.stdout.encoding
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = text_stream(1, "<stdout>", encoding=encoding, errors="surrogateescape", line_buffering=True)
    sys.stderr = text_stream(2, "<stderr>", encoding=encoding, errors="backslashreplace", line_buffering=True)


def unreadable_python() -> str:
    """In a line, if this user, who has no more rights by now, cannot reach the Python that the slave runs on; else empty."""
    for file in (__file__, os.__file__, str(sys.modules["msgspec"].__file__)):
        if path := first_closed(file):
            user = os.environ.get("LOGNAME") or f"uid {os.getuid()}"
            return f"{user} cannot read {path}, where this slave's Python is; install offerd where every account can"
    return ""


def first_closed(file: str) -> str:
    """The first directory on the way to this file that we may not enter, or the file that we may not read; else empty."""
    parts = os.path.realpath(file).split("/")
    ways = ["/".join(parts[:number]) for number in range(2, len(parts) + 1)]
    return next((way for way in ways if not os.access(way, os.R_OK if way == ways[-1] else os.X_OK)), "")


def environment_of(job: Job) -> dict[bytes, bytes]:
    """As the kernel wants it. Raises `ValueError` for what nobody has packed."""
    return {raw(name): raw(value) for name, value in job.environment.items()}


def marks_of(environment: dict[str, str]) -> dict[str, str]:
    """The variables by which isolation modules know a process; the others, secrets among them, need not be shown."""
    return {name: environment[name] for name in (CONTAINER_MARK, TASK_MARK) if name in environment}
