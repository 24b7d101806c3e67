"""What Linux offers and Python's library does not: prctl, and the place where the kernel looks for argv and environment."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
MADV_DONTNEED = 4
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes, more: bytes | None = None) -> None:
    """prctl(2) with one argument, or two. Raises `OSError`."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, argument, ctypes.c_char_p(more), zero, zero) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def close_all_but(kept: set[int | None]) -> None:
    """Every descriptor above the first three that is not among these."""
    start = 3
    for fd in sorted(fd for fd in kept if fd is not None):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def reset_signals() -> None:
    """As after an exec by somebody who had touched no signal."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def setns(pidfd: int, kinds: int) -> None:
    """setns(2): enter namespaces of a process, by its pidfd (Linux 5.8). Raises `OSError`."""
    if _libc.setns(pidfd, kinds) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter the container: {os.strerror(error)}")


def forgo_capabilities() -> None:
    """None may come back, by no exec: the bounding set is emptied. Those held stay until `drop_capabilities`."""
    for capability in range(_MOST_CAPABILITIES):
        if _libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            return  # the kernel knows no more
        prctl(PR_CAPBSET_DROP, capability)


def drop_capabilities() -> None:
    """capset(2) with nothing: also root's. Raises `OSError`."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")


def trim_heap() -> None:
    """Give back what imports have left free in the heap: every fork would carry it on."""
    if hasattr(_libc, "malloc_trim"):  # glibc only
        _libc.malloc_trim(0)


Area = tuple[ctypes.c_void_p, ctypes.c_size_t]
"""Start and size of a mapping."""


def clean_file_areas() -> list[Area]:
    """Mappings of programs and libraries that are read-only and hold no page of our own: `drop` loses nothing there.

    (Relocations are written before a mapping becomes read-only; one that has any is not among them.)
    """
    areas: list[Area] = []
    with open("/proc/self/smaps", "rb") as file:
        for line in file:
            fields = line.split()
            if not fields[0].endswith(b":"):
                start, end = (int(address, 16) for address in fields[0].split(b"-"))
                is_readonly = fields[1] in (b"r-xp", b"r--p") and fields[-1].startswith(b"/")
            elif fields[0] == b"Anonymous:" and fields[1] == b"0" and is_readonly:
                areas.append((ctypes.c_void_p(start), ctypes.c_size_t(end - start)))
    return areas


def drop(areas: list[Area]) -> None:
    """Unmap the pages of these. What is needed again comes back from the page cache, 64 KiB at a time: so a process that
    will do one small thing for days holds, and shows, some megabytes less."""
    madvise = _libc.madvise
    for start, size in areas:
        madvise(start, size, MADV_DONTNEED)


class StartArea:
    """The memory that /proc/PID/cmdline and /proc/PID/environ show, for a process that was forked and does not exec.

    The kernel shows where argv and the environment stood at the exec, whatever the process did to them later. A fork that
    is to carry a mark of its own therefore writes it there. Nothing else may point there: replace `os.environ` as a whole
    first (setenv(3) copies). The room is that of the exec, so whoever is to use this is exec'ed with `PADDING` in it.
    """

    PADDING = ("OFFERD_PADDING", "." * 512)

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            line = file.read()
        fields = line[line.rindex(b")") + 2 :].split()
        # fields 48 to 51 of proc(5), of which the first two are cut off here
        self._argv, argv_end, self._environ, environ_end = (int(fields[n - 3]) for n in (48, 49, 50, 51))
        self._argv_bytes = argv_end - self._argv
        self._environ_bytes = environ_end - self._environ

    def write(self, title: str, environ: dict[str, str]) -> None:
        """Show this; variables that do not fit are left out, the first ones stay."""
        # A last byte of argv that is not zero would make the kernel read on into the environment.
        shown = title.encode(errors="replace")[: max(0, self._argv_bytes - 1)]
        ctypes.memset(self._argv, 0, self._argv_bytes)
        ctypes.memmove(self._argv, shown, len(shown))
        block = b""
        for name, value in environ.items():
            entry = os.fsencode(f"{name}={value}") + b"\0"
            if len(block) + len(entry) <= self._environ_bytes:
                block += entry
        ctypes.memset(self._environ, 0, self._environ_bytes)
        ctypes.memmove(self._environ, block, len(block))
