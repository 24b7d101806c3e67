"""What /proc/PID/cmdline and /proc/PID/environ show of a process that was forked and does not exec."""

from __future__ import annotations

import ctypes
import os

from offerd_linux import processes


class StartArea:
    """The memory that these files show. Its address is the same in every fork.

    The kernel shows the memory where argv and the environment were at the exec, whatever the process has changed since. So a
    fork that needs a mark of its own writes it there. Nothing else may point there: replace `os.environ` as a whole first
    (setenv(3) copies). The size is that of the exec, so a process that uses this is exec'ed with `PADDING` in its environment.
    """

    PADDING = ("OFFERD_PADDING", "." * 512)

    def __init__(self) -> None:
        fields = processes.stat_fields(os.getpid())
        assert fields is not None, "no entry of our own in /proc"
        # Fields 48 to 51 of stat in proc(5).
        self._argv, argv_end, self._environ, environ_end = (int(field) for field in fields[45:49])
        self._argv_bytes = argv_end - self._argv
        self._environ_bytes = environ_end - self._environ

    def write(self, title: str, environ: dict[str, str]) -> None:
        """Show this title and environment. Variables that do not fit are left out, beginning with the last."""
        # If the last byte of argv were not zero, the kernel would read on into the environment.
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
