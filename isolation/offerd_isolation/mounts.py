"""Mounts: directories whose files lend no rights, `nosuid` and `nodev` on themselves; layers. Standard library only.

A task may write a setuid file where it may write at all. Inside its container that lends nothing (no new privileges); on the
host, in the same directory, whoever runs it by name would be the task's user.
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
    """Whether neither setuid nor device files are obeyed in this directory."""
    wanted = os.ST_NOSUID | _NODEV
    return os.statvfs(path).f_flag & wanted == wanted


def make_harmless(path: Path) -> None:
    """Until `release`. Nothing to do where it is so already. Raises `OSError`, and leaves nothing half done."""
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
    """Take away what `make_harmless` has mounted there; nothing happens where nothing is, or without the right to."""
    with suppress(OSError):
        _umount(os.fsencode(path))


def release_below(directory: Path) -> None:
    """The same for all that is mounted below a directory that is to be removed, whoever has left it there."""
    prefix = f"{directory}/".encode()
    with suppress(OSError):
        for line in reversed(Path("/proc/self/mountinfo").read_bytes().splitlines()):
            where = _unescaped(line.split(b" ")[4])
            if where.startswith(prefix):
                release(Path(os.fsdecode(where)))


def upper_layers(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Where on the host what a process writes to its root goes, if that is an overlay; none if it is not, or is gone."""
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
    """As the kernel writes blanks and backslashes: `\\040`."""
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    if libc.mount(source, target, None, ctypes.c_ulong(flags), None) != 0:
        raise failure(f"cannot mount {os.fsdecode(target)} nosuid")


def _umount(target: bytes) -> None:
    if libc.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
        raise failure("umount")
