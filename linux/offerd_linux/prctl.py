"""What a process may ask for itself with prctl(2). Each raises `OSError` where the kernel refuses."""

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
    """Have orphans below this process come to it."""
    _prctl("cannot become a subreaper", PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(is_dumpable: bool) -> None:
    """Not dumpable: no process of our user traces us, or reads our memory, descriptors and most of /proc/PID."""
    _prctl("cannot set who may look into this process", PR_SET_DUMPABLE, int(is_dumpable))


def set_name(name: bytes) -> None:
    """As /proc/PID/comm and `ps` show it: 15 bytes at most."""
    _prctl("cannot set the name of this process", PR_SET_NAME, name)


def forbid_new_privileges() -> None:
    """For good: no exec gives this process, or what comes from it, rights that it does not have."""
    _prctl("cannot forbid new privileges", PR_SET_NO_NEW_PRIVS, 1)


def end_with_parent() -> None:
    """Have SIGTERM come when the thread that started us ends.

    A parent that has ended before this call sends nothing any more; a local cluster's janitor finds such a child.
    """
    _prctl("cannot ask for a signal at our parent's end", PR_SET_PDEATHSIG, signal.SIGTERM)


def filter_calls(program: bytes) -> None:
    """A seccomp filter, `struct sock_fprog`, for this process and all that comes from it, for good."""
    _prctl("cannot filter system calls", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)


def _prctl(trouble: str, option: int, value: int | bytes, more: bytes | None = None) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, argument, ctypes.c_char_p(more), zero, zero) != 0:
        raise failure(trouble)
