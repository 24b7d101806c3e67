"""The only program that the engine starts in a container. It waits, so that the container's namespaces and cgroup stay.

An image may contain no program for that, so a static one of about 200 bytes is mounted into each container. It is pid 1:
orphans become its children, which the kernel reaps as it ignores SIGCHLD, and when it ends, everything in the container ends.
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
"""For each supported machine: its number in ELF headers, and the code."""


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
    """Write the program into this directory, once, and return its path. Raises `OSError`."""
    path = directory / "pause"
    content = program()
    assert content is not None, "`available` has checked the machine"
    if not path.exists() or path.read_bytes() != content:
        directory.mkdir(mode=0o755, exist_ok=True)
        draft = directory / f".pause.{os.getpid()}"
        draft.write_bytes(content)
        draft.chmod(0o555)
        if path.exists():  # running containers are recognized by the old program: keep it
            with suppress(FileExistsError):
                os.link(path, directory / f"pause.{path.stat().st_ino}")
        draft.rename(path)
    return path


def is_of_a_container(pid: int, directory: Path) -> bool:
    """Whether this process is pid 1 of a pid namespace below the slave's that root has made, and runs the pause program in
    `directory` or an older one kept there. The environment is no proof, as any process can set its own; and in a user
    namespace of its own, any user can run that program as pid 1.
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
