"""How executors end: shims watched by pidfd, and the records they leave."""

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
    """Tells when shims end. Each watched one costs a file descriptor; nothing is polled by time."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[ContainerID, Path]] = {}

    def fileno(self) -> int:
        """Readable when `ended` has news."""
        return self._epoll.fileno()

    def watch(self, container_id: ContainerID, shim: ProcessID, container_dir: Path) -> bool:
        """Watch exactly this process. False if it is gone: what it left is `record`'s to read."""
        pidfd = process_ids.open_pidfd(shim)
        if pidfd is None:
            return False
        self._watched[pidfd] = (container_id, container_dir)
        self._epoll.register(pidfd, select.EPOLLIN)
        return True

    def ended(self) -> list[tuple[ContainerID, ExitRecord | None]]:
        """Containers whose shim has ended since the last call, each once; None: it left no record, so it was killed."""
        # A record gets its name before its shim ends: so now it is there, or never.
        found = [self._drop(pidfd) for pidfd, _ in self._epoll.poll(0)]
        return [(container_id, self.record(container_dir)) for container_id, container_dir in found]

    def record(self, container_dir: Path) -> ExitRecord | None:
        """What a shim that has ended wrote down. None if it left nothing that can be read."""
        try:
            with open(container_dir / EXIT_FILE, "rb") as file:
                return msgspec.json.decode(file.read(2 * EXIT_BYTES), type=ExitRecord)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None  # the disk has lost it: we know no more than without it

    def forget(self, container_id: ContainerID) -> None:
        """Its end is no news any more."""
        for pidfd in [fd for fd, (watched, _) in self._watched.items() if watched == container_id]:
            self._drop(pidfd)

    def close(self) -> None:
        """Watch nothing any more."""
        for pidfd in list(self._watched):
            self._drop(pidfd)
        self._epoll.close()

    def _drop(self, pidfd: int) -> tuple[ContainerID, Path]:
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        return self._watched.pop(pidfd)
