"""A descriptor that becomes readable when a watched control file changes, so that no timer has to poll.

The kernel reports a change of memory.events as a modified file (inotify), at most once in 10 ms for each.
"""

from __future__ import annotations

import ctypes
import os
import struct

from offerd_linux.libc import libc

IN_MODIFY = 0x2
IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 << 10


class Notices:
    """Watched files, each with a key that the caller chooses."""

    def __init__(self) -> None:
        """Raises `OSError` if the user has too many inotify instances."""
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._keys: dict[int, str] = {}

    def watch(self, path: str, key: str) -> None:
        """Report changes of this file under that key, until the file is removed. Raises `OSError`."""
        number: int = libc.inotify_add_watch(self.fd, os.fsencode(path), IN_MODIFY)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        self._keys[number] = key

    def read(self) -> set[str]:
        """Keys of files that have changed since the last call. Never waits."""
        changed: set[str] = set()
        while True:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return changed
            at = 0
            while at < len(data):
                number, mask, _, name_bytes = _EVENT.unpack_from(data, at)
                at += _EVENT.size + name_bytes
                if mask & IN_IGNORED:
                    self._keys.pop(number, None)
                elif number in self._keys:
                    changed.add(self._keys[number])

    def close(self) -> None:
        os.close(self.fd)
