"""The memory of processes: how much one holds, and how to hold less."""

from __future__ import annotations

import ctypes
import os

from offerd_linux import processes
from offerd_linux.libc import libc

MADV_DONTNEED = 4
_COUNTED = (b"Pss_Anon", b"Pss_Shmem", b"SwapPss")
"""Fields of smaps_rollup, in KiB; kernels before 5.10 have only the sum, as `Pss`."""


def held_bytes(process: processes.Process) -> int:
    """Memory that the kernel cannot take away from a process, with its part of shared memory, in bytes; resident memory if that
    may not be read; 0 if the process is gone. The kernel walks through the page tables for this.
    """
    try:
        with open(f"{processes.PROC}/{process.pid}/smaps_rollup", "rb", buffering=0) as file:
            text = file.read(8192)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError:
        return process.rss_bytes
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        number, _, unit = value.strip().partition(b" ")
        if unit == b"kB":
            sizes[name] = int(number) << 10
    if _COUNTED[0] in sizes:
        return sum(sizes.get(name, 0) for name in _COUNTED)
    return sizes.get(b"Pss", 0) + sizes.get(b"SwapPss", 0)


def peak_since_exec_bytes() -> int:
    """The most resident memory of this process since its exec. (getrusage is quicker, but includes the time before.)"""
    return int(processes.status(os.getpid(), "VmHWM").split()[0]) << 10


def expose_to_oom_killer() -> None:
    """Let the OOM killer choose this process. A daemon may be protected from it, but what it starts must not be. Raising one's
    own score needs no privilege.

    Raises `OSError`.
    """
    with open(f"{processes.PROC}/self/oom_score_adj", "r+b", buffering=0) as file:
        if int(file.read()) < 0:
            file.write(b"0")


def trim_heap() -> None:
    """Return memory that imports have left free in the heap: every fork would keep it."""
    if hasattr(libc, "malloc_trim"):  # glibc only
        libc.malloc_trim(0)


Area = tuple[ctypes.c_void_p, ctypes.c_size_t]
"""Start and size of a mapping."""


def clean_file_areas() -> list[Area]:
    """Mappings of programs and libraries that are read-only and have no page of our own: `drop_pages` loses nothing there.

    (Relocations are written before a mapping becomes read-only; a mapping with relocations is not among these.)
    """
    areas: list[Area] = []
    with open(f"{processes.PROC}/self/smaps", "rb") as file:
        for line in file:
            fields = line.split()
            if not fields[0].endswith(b":"):
                start, end = (int(address, 16) for address in fields[0].split(b"-"))
                is_readonly = fields[1] in (b"r-xp", b"r--p") and fields[-1].startswith(b"/")
            elif fields[0] == b"Anonymous:" and fields[1] == b"0" and is_readonly:
                areas.append((ctypes.c_void_p(start), ctypes.c_size_t(end - start)))
    return areas


def drop_pages(areas: list[Area]) -> None:
    """Unmap the pages of these areas. Pages that are needed again come back from the page cache, 64 KiB at a time. So a process
    that will do one small thing for days holds some megabytes less, and `ps` shows that."""
    madvise = libc.madvise
    for start, size in areas:
        madvise(start, size, MADV_DONTNEED)
