"""Settings of a process with prctl(2). Each function raises `OSError` if the kernel refuses."""

from __future__ import annotations

import ctypes
import signal

from offerd_linux.libc import failure, libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2


def become_subreaper() -> None:
    """Become the parent of orphans below this process."""
    _prctl("cannot become a subreaper", PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(is_dumpable: bool) -> None:
    """If not dumpable, no process of the same user can trace this one, or read its memory, descriptors or most of /proc/PID.

    Raises `OSError`.
    """
    _prctl("cannot set who may look into this process", PR_SET_DUMPABLE, int(is_dumpable))


def set_name(name: bytes) -> None:
    """Set the name that /proc/PID/comm and `ps` show: 15 bytes at most."""
    _prctl("cannot set the name of this process", PR_SET_NAME, name)


def forbid_new_privileges() -> None:
    """For good: no exec gives this process or its descendants rights that they do not have."""
    _prctl("cannot forbid new privileges", PR_SET_NO_NEW_PRIVS, 1)


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when the thread that started it ends.

    If that has ended before this call, no signal comes; the janitor of a local cluster finds such a process.
    """
    _prctl("cannot ask for a signal at our parent's end", PR_SET_PDEATHSIG, signal.SIGTERM)


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter, `struct sock_fprog`, for this process and its descendants, for good."""
    _prctl("cannot filter system calls", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)


def _prctl(trouble: str, option: int, value: int | bytes, more: bytes | None = None) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, argument, ctypes.c_char_p(more), zero, zero) != 0:
        raise failure(trouble)
