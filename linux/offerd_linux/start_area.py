"""What /proc/PID/cmdline and /proc/PID/environ show of a process that was forked and does not exec."""

from __future__ import annotations

import ctypes
import os

from offerd_linux import processes


class StartArea:
    """The memory that they show. Its place is the same in every fork.

    The kernel shows where argv and the environment stood at the exec, whatever the process did to them later. A fork that
    is to carry a mark of its own therefore writes it there. Nothing else may point there: replace `os.environ` as a whole
    first (setenv(3) copies). The room is that of the exec, so whoever is to use this is exec'ed with `PADDING` in it.
    """

    PADDING = ("OFFERD_PADDING", "." * 512)

    def __init__(self) -> None:
        fields = processes.stat_fields(os.getpid())
        assert fields is not None, "no entry of our own in /proc"
        # Fields 48 to 51 of proc(5).
        self._argv, argv_end, self._environ, environ_end = (int(field) for field in fields[45:49])
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
