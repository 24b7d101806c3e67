"""The work directory: locked by one slave at a time, read at its start, and its checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from offerd.errors import BadInput
from offerd.ids import ContainerID
from offerd.messages import SetSlaveMode
from offerd_isolation.marks import recorded_shim
from offerd_linux.process_ids import ProcessID
from offerd_slave.checkpoint import (
    DamagedCheckpoint,
    keep_aside,
    quarantine,
    read_checkpoint,
    write_checkpoint,
)
from offerd_slave.core.actions import SaveSlave
from offerd_slave.core.events import DiskMeasured
from offerd_slave.journal import Journal
from offerd_slave.records import (
    SLAVE_FILE,
    WISH_FILE,
    ContainerCheckpoint,
    JournalRecord,
    ProcessCheckpoint,
    SlaveCheckpoint,
    Wish,
)

log = logging.getLogger("offerd.slave")

PROBE_BYTES = 4096
"""One page: no file system keeps it in its inode."""


@dataclass(slots=True)
class Found:
    """What an earlier slave process has left in the work directory."""

    slave: SlaveCheckpoint | None = None
    containers: list[ContainerCheckpoint] = field(default_factory=list)
    records: list[JournalRecord] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # a line for each damaged file or place
    is_damaged: bool = False  # the journal is damaged, so that records may be missing


class WorkDir:
    """Paths and locks of one work directory; its layout is drawn in `offerd_slave.records`."""

    def __init__(self, path: Path) -> None:
        """Make missing directories and take the lock. Raises `BadInput` if that fails."""
        self.path = path.absolute()
        self.containers = self.path / "containers"
        self.sockets = self.path / "sockets"
        self.quarantine = self.path / "quarantine"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for directory in (self.containers, self.sockets, self.quarantine):
                directory.mkdir(exist_ok=True)
            # Executors may run as other users: they may pass through, but not list.
            for directory in (self.path, self.containers, self.sockets):
                directory.chmod(0o711)
            self.quarantine.chmod(0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadInput(
                f"cannot use {self.path} as a work directory: {error.strerror}; choose another with --work-dir"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise BadInput(
                f"another slave (pid {owner or 'unknown'}) uses {self.path}; stop it, or choose another --work-dir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def container(self, container_id: ContainerID) -> Path:
        return self.containers / container_id

    def sandbox(self, container_id: ContainerID) -> Path:
        return self.containers / container_id / "sandbox"

    # -- reading --------------------------------------------------------------------------------------------------------

    def read(self, journal: Journal) -> Found:
        """Read everything. Damaged files are quarantined, with a complaint for each."""
        found = Found()
        try:
            found.slave = read_checkpoint(self.path / SLAVE_FILE, SlaveCheckpoint)
        except FileNotFoundError:
            pass
        except DamagedCheckpoint as damage:
            found.complaints.append(f"the slave's id is lost, and it registers as a new slave: {damage}")
            self.set_aside(self.path / SLAVE_FILE)
        for directory in sorted(self.containers.iterdir()):
            checkpoint = directory / "container.ckpt"
            try:
                container = read_checkpoint(checkpoint, ContainerCheckpoint)
                if container.container_id != directory.name:
                    raise DamagedCheckpoint(f"{checkpoint}: it is another container's")
            except FileNotFoundError:
                continue
            except DamagedCheckpoint as damage:
                found.complaints.append(f"container {directory.name} cannot be recovered: {damage}")
                self.set_aside(checkpoint)
                continue
            if container.shim is None:  # the slave died while it was launched
                shim = recorded_shim(directory)
                container = msgspec.structs.replace(container, shim=shim and to_checkpoint(shim))
            found.containers.append(container)
        found.records, damages = journal.replay()
        found.is_damaged = bool(damages)
        for each in damages:
            keep_aside(self.quarantine, f"{journal.path.name}.{each.offset}", journal.damaged(each))
        found.complaints += [
            f"{damage.length} bytes of the journal at {damage.offset} cannot be read; the tasks concerned are settled "
            "with their executors"
            for damage in damages
        ]
        return found

    def set_aside(self, checkpoint: Path) -> None:
        """Move a damaged checkpoint into the quarantine, so that the next start does not read it again."""
        try:
            quarantine(checkpoint, self.quarantine)
        except OSError as error:
            log.error("cannot set %s aside: %s", checkpoint, error.strerror)

    # -- writing --------------------------------------------------------------------------------------------------------

    def save_slave(self, who: SaveSlave, boot_id: str) -> None:
        checkpoint = SlaveCheckpoint(
            who.slave_id, boot_id, who.epoch, who.mode, who.drain_end_at, who.drain_grace_s
        )
        write_checkpoint(self.path / SLAVE_FILE, checkpoint)

    def take_wish(self) -> list[SetSlaveMode]:
        """Take the mode that an operator on this host has written down before sending SIGUSR1. The signal alone means drain.
        Empty if the file cannot be read."""
        path = self.path / WISH_FILE
        try:
            wish = read_checkpoint(path, Wish)
            path.unlink()
        except FileNotFoundError:
            wish = Wish("draining")
        except (OSError, DamagedCheckpoint) as error:
            log.error("cannot read what is wanted of this slave: %s", error)
            return []
        return [SetSlaveMode(wish.mode, None, wish.deadline_s)]

    def save_container(self, checkpoint: ContainerCheckpoint) -> None:
        write_checkpoint(self.container(checkpoint.container_id) / "container.ckpt", checkpoint)

    def forget_container(self, container_id: ContainerID) -> None:
        """Remove a container's checkpoint, as a restart need not know it. Its sandbox stays for a while."""
        (self.container(container_id) / "container.ckpt").unlink(missing_ok=True)

    def look_at_disk(self) -> DiskMeasured:
        """How much is free, and whether the disk can be written. Blocks no longer than a write to the page cache."""
        probe = self.path / "probe"
        fault, free_bytes, size_bytes = "", 0, 0
        try:
            found = os.statvfs(self.path)
            free_bytes, size_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
            probe.write_bytes(bytes(PROBE_BYTES))
        except OSError as error:
            fault = error.strerror or str(error)
        with contextlib.suppress(OSError):
            probe.unlink()
        return DiskMeasured(free_bytes, size_bytes, fault)

    def release(self) -> None:
        """Let another slave take the directory."""
        os.close(self._lock)


def to_checkpoint(process: ProcessID) -> ProcessCheckpoint:
    return ProcessCheckpoint(process.boot_id, process.pid, process.start_ticks)


def from_checkpoint(process: ProcessCheckpoint | None) -> ProcessID | None:
    return None if process is None else ProcessID(process.boot_id, process.pid, process.start_ticks)


def new_incarnation() -> str:
    """A name that no earlier start had: the wall clock's milliseconds in base 36 (used only as a name, not as a time)."""
    number, digits = time.time_ns() // 1_000_000, ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
