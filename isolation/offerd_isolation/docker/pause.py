"""The one program that a container runs by itself: it waits, so that the container's namespaces and cgroup stay.

An image may hold no program that could do that, so a static one of some 200 bytes is mounted into each container. As pid 1
it buries what loses its parent (SIGCHLD is ignored, so the kernel does it), and with it everything in the container ends.
"""

from __future__ import annotations

import os
import platform
import struct
from contextlib import suppress
from pathlib import Path

from offerd_linux import namespaces, processes

PATH_INSIDE = "/.offerd-pause"
_BASE = 0x400000
_HEADERS_BYTES = 64 + 56
_X86_64 = bytes.fromhex(
    "b80d000000"  # mov eax, 13         rt_sigaction(
    "bf11000000"  # mov edi, 17           SIGCHLD,
    "488d3513000000"  # lea rsi, [rip + 19]  the action below,
    "31d2"  # xor edx, edx          nothing,
    "41ba08000000"  # mov r10d, 8           bytes of its mask)
    "0f05"  # syscall
    "b822000000"  # mov eax, 34         pause()
    "0f05"  # syscall
    "ebf7"  # jmp back 7+2          for ever
) + struct.pack("<4Q", 1, 0, 0, 0)  # SIG_IGN, no flags, no restorer, empty mask
PROGRAMS = {"x86_64": (62, _X86_64)}
"""For each machine that we have one for: its number in ELF headers, and the code."""


def program(machine: str = "") -> bytes | None:
    """An ELF file for this machine; None if there is none. (System V ABI, chapters 4 and 5.)"""
    if (found := PROGRAMS.get(machine or platform.machine())) is None:
        return None
    number, code = found
    size = _HEADERS_BYTES + len(code)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian
    entry = _BASE + _HEADERS_BYTES
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # all of it: read, execute
    return identification + header + segment + code


def install(directory: Path) -> Path:
    """Write it where the engine finds it, once. Raises `OSError`."""
    path = directory / "pause"
    content = program()
    assert content is not None, "asked for before"
    if not path.exists() or path.read_bytes() != content:
        directory.mkdir(mode=0o755, exist_ok=True)
        draft = directory / f".pause.{os.getpid()}"
        draft.write_bytes(content)
        draft.chmod(0o555)
        if path.exists():  # containers may run it, and are known by it
            with suppress(FileExistsError):
                os.link(path, directory / f"pause.{path.stat().st_ino}")
        draft.rename(path)
    return path


def is_of_a_container(pid: int, directory: Path) -> bool:
    """Whether this is pid 1 of a pid namespace below ours that we (root) or the engine made, and runs the program in
    `directory`, or one that was there before. What a process says of itself in its environment, anybody can say; and with a
    user namespace of its own anybody can run that program as pid 1.
    """
    try:
        pids = namespaces.pids_inside(pid)
        program = processes.program(pid)
        ours = [each.stat() for each in directory.iterdir()]
        owner = namespaces.owner_of_users(pid)
    except OSError:
        return False
    return (
        owner == os.geteuid()
        and len(pids) > 1
        and pids[-1] == 1
        and any((each.st_dev, each.st_ino) == (program.st_dev, program.st_ino) for each in ours)
    )
