"""How executors end: their shims are watched by pidfd, and leave exit records."""

from __future__ import annotations

import os
import select
from pathlib import Path

import msgspec

from offerd.ids import ContainerID
from offerd_linux import process_ids
from offerd_linux.process_ids import ProcessID
from offerd_slave.launch.shim import EXIT_BYTES, EXIT_FILE
from offerd_slave.records import ExitRecord


class ExitWatcher:
    """Notices when shims end. Each watched shim takes a file descriptor; there is no polling."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[ContainerID, Path]] = {}

    @property
    def watched(self) -> int:
        """How many shims are watched: those that run, as far as is known."""
        return len(self._watched)

    def fileno(self) -> int:
        """Readable when `ended` has something."""
        return self._epoll.fileno()

    def watch(self, container_id: ContainerID, shim: ProcessID, container_dir: Path) -> bool:
        """Watch exactly this process. False if it is gone; then `record` has what it left."""
        pidfd = process_ids.open_pidfd(shim)
        if pidfd is None:
            return False
        self._watched[pidfd] = (container_id, container_dir)
        self._epoll.register(pidfd, select.EPOLLIN)
        return True

    def ended(self) -> list[tuple[ContainerID, ExitRecord | None]]:
        """Containers whose shim has ended since the last call, each once. None: it left no record, so it was killed."""
        # A shim writes its record before it ends, so the record exists now, or never will.
        found = [self._drop(pidfd) for pidfd, _ in self._epoll.poll(0)]
        return [(container_id, self.record(container_dir)) for container_id, container_dir in found]

    def record(self, container_dir: Path) -> ExitRecord | None:
        """The exit record of a shim that has ended. None if there is none that can be read."""
        try:
            with open(container_dir / EXIT_FILE, "rb") as file:
                return msgspec.json.decode(file.read(2 * EXIT_BYTES), type=ExitRecord)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None  # lost by the disk, which is no better than no record

    def forget(self, container_id: ContainerID) -> None:
        """Stop watching this container's shim."""
        for pidfd in [fd for fd, (watched, _) in self._watched.items() if watched == container_id]:
            self._drop(pidfd)

    def close(self) -> None:
        """Stop watching."""
        for pidfd in list(self._watched):
            self._drop(pidfd)
        self._epoll.close()

    def _drop(self, pidfd: int) -> tuple[ContainerID, Path]:
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        return self._watched.pop(pidfd)
