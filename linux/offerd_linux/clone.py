"""Starts processes in a cgroup: clone3(2) with CLONE_INTO_CGROUP, which neither glibc nor Python offers.

The process is never outside of the cgroup, and nothing waits, whereas moving it with `cgroup.procs` waits for an RCU grace
period. Only for processes with a single thread, such as the zygote, shims and spawners: a raw system call does not take the C
library's locks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

CLONE_VM = 0x100
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_INTO_CGROUP = 0x200000000
SYS_CLONE3 = 435  # the same on all architectures
SYS_CLONE = {"x86_64": 56}.get(os.uname().machine, 220)
OLD_KERNEL = (errno.ENOSYS, errno.E2BIG, errno.EINVAL)
"""There is no clone3 (before 5.3, or hidden by a filter), or it does not take a cgroup (before 5.7)."""

# PyDLL keeps the GIL: no other thread may run Python in between.
_libc = ctypes.PyDLL(None, use_errno=True)
_python = ctypes.pythonapi


class CloneArguments(ctypes.Structure):
    """`struct clone_args` of linux/sched.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def fork_into(cgroup: int) -> int:
    """Like os.fork(), but the child starts in the cgroup whose directory is open as `cgroup`. Raises `OSError`.

    One thing of os.fork() is missing: the child's C library still believes in the parent's thread id, which only raise(3) and
    abort(3) use.
    """
    _python.PyOS_BeforeFork()
    pid, error = _clone3(CLONE_INTO_CGROUP, signal.SIGCHLD, cgroup)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    _python.PyOS_AfterFork_Parent()
    if error in OLD_KERNEL:
        return _fork_and_move(cgroup)
    return _checked(pid, error)


def spawn_into(cgroup: int) -> int:
    """Start a child that execs at once, in the cgroup, *as a sibling of the caller*, which stands still until the exec.

    Python is not prepared to go on in the child. Raises `OSError`.
    """
    flags = CLONE_PARENT | CLONE_VFORK
    pid, error = _clone3(flags | CLONE_INTO_CGROUP, 0, cgroup)
    if error in OLD_KERNEL:
        zero = ctypes.c_ulong(0)
        procs = open_procs(cgroup)
        pid = _libc.syscall(ctypes.c_long(SYS_CLONE), ctypes.c_ulong(flags), zero, zero, zero, zero)
        error = ctypes.get_errno() if pid < 0 else 0
        if pid == 0:
            os.write(procs, b"0")
        os.close(procs)
    return _checked(pid, error)


def vfork_arguments(cgroup: int) -> CloneArguments:
    """The arguments of a clone3 that does the same in the caller's memory: for `vfork.Calls.run`."""
    return CloneArguments(flags=CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_INTO_CGROUP, cgroup=cgroup)


def open_procs(cgroup: int) -> int:
    """Open the `cgroup.procs` of a cgroup. Since Linux 5.16 the rights of the process that opens it count, not the writer's."""
    return os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup)


def _clone3(flags: int, exit_signal: int, cgroup: int) -> tuple[int, int]:
    """Returns pid and errno."""
    arguments = CloneArguments(flags=flags, exit_signal=exit_signal, cgroup=cgroup)
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    pid = _libc.syscall(ctypes.c_long(SYS_CLONE3), ctypes.byref(arguments), size)
    return pid, ctypes.get_errno() if pid < 0 else 0


def _fork_and_move(cgroup: int) -> int:
    procs = open_procs(cgroup)
    try:
        pid = os.fork()
        if pid == 0:
            os.write(procs, b"0")
    finally:
        os.close(procs)
    return pid


def _checked(pid: int, error: int) -> int:
    if error:
        raise OSError(error, f"no process in its cgroup: {os.strerror(error)}")
    return pid
