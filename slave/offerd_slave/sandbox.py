"""Make sandboxes for containers, and remove them some time after the container's end, sooner if the disk fills up. Leftovers of
ended tasks in the sandboxes of running executors are removed with them (`offerd_slave.leftovers`).

The files in a sandbox may have been made with bad intent: nothing here follows a link, runs out of descriptors in a deep
tree, or uses a path that goes through a sandbox.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from offerd.ids import ContainerID
from offerd_isolation import mounts
from offerd_slave import leftovers
from offerd_slave.access_lists import allow_search
from offerd_slave.removal import remove_entry, remove_tree
from offerd_slave.retention import LEAST_AGE_OF_MANY_S, Bounds
from offerd_slave.served_paths import OWNER
from offerd_slave.users import Credentials

COLLECT_INTERVAL_S = 60.0
COLLECT_INTERVAL_WHILE_FULL_S = 5.0
SHORTEST_COLLECT_INTERVAL_S = 1.0
LEAST_SANDBOX_AGE_S = 30.0
"""A younger directory may belong to a container that is being made."""

log = logging.getLogger("offerd.slave")


def make_container(container_dir: Path, credentials: Credentials | None, owner: str = "") -> Path:
    """Make a container's directory, which belongs to the slave, and in it the sandbox, which belongs to the user with these
    credentials (None: the slave's own). Returns the sandbox's path. The framework's `owner` may read it over HTTP.

    Raises `OSError`.
    """
    container_dir.mkdir(mode=0o700)
    (container_dir / OWNER).write_text(owner)
    sandbox = container_dir / "sandbox"
    sandbox.mkdir(mode=0o700)
    if credentials is not None:
        _let_through(container_dir, credentials)
        os.chown(sandbox, credentials.uid, credentials.gid)
    return sandbox


def _let_through(container_dir: Path, credentials: Credentials) -> None:
    """Let the user pass through to the sandbox. Nobody else can, whatever permissions the user sets there: otherwise a setuid
    file in a sandbox would give other users the rights of its owner.
    """
    try:
        allow_search(container_dir, credentials.uid)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        os.chown(container_dir, -1, credentials.gid)
        container_dir.chmod(0o710)


@dataclass(frozen=True, slots=True)
class FinishedSandbox:
    """A container that has ended, and when, by the wall clock, which can be compared after a restart."""

    container_id: ContainerID
    ended_s: float


def sandboxes_to_remove(
    finished: Iterable[FinishedSandbox], now_s: float, disk_free_fraction: float, bounds: Bounds
) -> list[ContainerID]:
    """The sandboxes that are too old, or too many, the oldest first."""
    greatest_age_s = bounds.greatest_age_s(disk_free_fraction)
    by_age = sorted(finished, key=lambda each: each.ended_s)
    too_many = len(by_age) - bounds.most_executors
    return [
        each.container_id
        for place, each in enumerate(by_age)
        if now_s - each.ended_s
        >= (min(greatest_age_s, LEAST_AGE_OF_MANY_S) if place < too_many else greatest_age_s)
    ]


Living = Mapping[ContainerID, Container[str]]
"""The running containers, and for each the tasks whose files are still needed."""


class SandboxCollector:
    """Removes old sandboxes in a thread of its own, as a large one may take minutes."""

    def __init__(self, work_dir: Path, bounds: Bounds) -> None:
        self._containers = work_dir / "containers"
        self._bounds = bounds
        self._interval_s = min(COLLECT_INTERVAL_S, max(SHORTEST_COLLECT_INTERVAL_S, bounds.delay_s / 4))
        self._last = -COLLECT_INTERVAL_S
        self._living: Living = {}
        self._known_s = 0.0  # the time of that, by the wall clock
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="sandbox-gc", daemon=True)
        self._thread.start()

    def tick(self, now: float, living: Callable[[], Living], *, is_disk_full: bool = False) -> None:
        """Have old sandboxes removed, if it is time (`now`: monotonic seconds); those in `living` are not touched."""
        interval_s = (
            min(self._interval_s, COLLECT_INTERVAL_WHILE_FULL_S) if is_disk_full else self._interval_s
        )
        if now < self._last + interval_s:
            return
        self._last = now
        self._known_s = time.time()
        self._living = living()
        self._wanted.set()

    def close(self) -> None:
        """End the thread after the sandbox that it is removing."""
        self._closing = True
        self._wanted.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            try:
                self._collect()
            except OSError as error:
                log.warning("cannot look for old sandboxes in %s: %s", self._containers, error.strerror)

    def _collect(self) -> None:
        disk = os.statvfs(self._containers)
        free_fraction = min(
            disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0,
            disk.f_favail / disk.f_files if disk.f_files else 1.0,
        )
        for container_id in sandboxes_to_remove(self._finished(), time.time(), free_fraction, self._bounds):
            if self._closing:
                return
            self._remove(container_id)
        known_s, living = self._known_s, self._living
        for container_id, tasks in living.items():
            if self._closing:
                return
            with suppress(FileNotFoundError):  # the container has just ended, or is being made
                has_more = leftovers.collect(
                    str(self._containers),
                    container_id,
                    tasks,
                    known_s,
                    free_fraction,
                    self._bounds,
                    self._remove_in,
                )
                if has_more:
                    self._wanted.set()

    def _remove_in(self, directory: int, name: str) -> None:
        """Remove an entry that a task has left."""
        if self._closing:
            return
        try:
            remove_entry(directory, name)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("what task %s has left cannot be removed: %s", name, error)

    def _finished(self) -> list[FinishedSandbox]:
        found = []
        for entry in os.scandir(self._containers):
            container_id = ContainerID(entry.name)
            # The directory's last change was its exit record, or the removal of its checkpoint.
            changed_s = entry.stat(follow_symlinks=False).st_mtime
            # With a checkpoint it runs, or is to be recovered; without one it may be being made.
            if container_id in self._living or os.path.lexists(f"{entry.path}/container.ckpt"):
                continue
            if abs(time.time() - changed_s) >= LEAST_SANDBOX_AGE_S:
                found.append(FinishedSandbox(container_id, changed_s))
        return found

    def _remove(self, container_id: ContainerID) -> None:
        mounts.release(
            self._containers / container_id / "sandbox"
        )  # in case an earlier slave process ended before it did so
        try:
            remove_tree(self._containers / container_id)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the sandbox of container %s cannot be removed: %s", container_id, error)
