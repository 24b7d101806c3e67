"""Mount directories on themselves with `nosuid` and `nodev`, and find overlay layers. Standard library only.

A task can write a setuid file into any directory that it can write to. Inside its container the setuid bit has no effect
(no new privileges). On the host, another user who runs that file would get the rights of the task's user.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from offerd_linux.libc import failure, libc

MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 0x2, 0x4, 0x20, 0x1000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
_NODEV = 4
"""ST_NODEV of statvfs(3); the os module has no name for it."""


def is_harmless(path: Path) -> bool:
    """Whether the kernel ignores setuid bits and device files in this directory."""
    wanted = os.ST_NOSUID | _NODEV
    return os.statvfs(path).f_flag & wanted == wanted


def make_harmless(path: Path) -> None:
    """Make the kernel ignore setuid bits and device files in this directory, until `release`. Does nothing if it already
    does. Raises `OSError`, and leaves nothing half done."""
    if is_harmless(path):
        return
    where = os.fsencode(path)
    _mount(where, where, MS_BIND)
    try:
        _mount(None, where, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)
    except OSError:
        release(path)
        raise


def release(path: Path) -> None:
    """Undo `make_harmless`. Does nothing if nothing is mounted there, or without the right to unmount."""
    with suppress(OSError):
        _umount(os.fsencode(path))


def release_below(directory: Path) -> None:
    """Unmount everything below a directory that is to be removed, whichever slave process has mounted it."""
    prefix = f"{directory}/".encode()
    with suppress(OSError):
        for line in reversed(Path("/proc/self/mountinfo").read_bytes().splitlines()):
            where = _unescaped(line.split(b" ")[4])
            if where.startswith(prefix):
                release(Path(os.fsdecode(where)))


def upper_layers(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """The directories of the host that hold what a process writes below its root, if that is an overlay; empty if it is not,
    or if the process is gone."""
    with suppress(OSError):
        for line in (proc / str(pid) / "mountinfo").read_bytes().splitlines():
            fields, _, rest = line.partition(b" - ")
            if fields.split(b" ")[4] == b"/" and rest.startswith(b"overlay "):
                options = rest.split(b" ")[2].split(b",")
                return [
                    os.fsdecode(_unescaped(option.partition(b"=")[2]))
                    for option in options
                    if option.startswith(b"upperdir=")
                ]
    return []


def _unescaped(path: bytes) -> bytes:
    """Decode the kernel's notation for blanks and backslashes in mountinfo: `\\040`."""
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    if libc.mount(source, target, None, ctypes.c_ulong(flags), None) != 0:
        raise failure(f"cannot mount {os.fsdecode(target)} nosuid")


def _umount(target: bytes) -> None:
    if libc.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
        raise failure("umount")
