"""Writes the journal, syncs and compacts it, and writes the slave's own checkpoint.

The records of a turn are written at its end, with one write. If the disk refuses them, they are kept, the write is tried
again, and until then nothing that depends on them is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from offerd.values.screen_text import printable
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import live_records
from offerd_slave.core.slave import SlaveCore
from offerd_slave.journal import Journal
from offerd_slave.records import JournalRecord, UnwritableRecord
from offerd_slave.storer import Storer
from offerd_slave.workdir import WorkDir

log = logging.getLogger("offerd.slave")

COMPACT_BYTES = 8 << 20
"""A larger journal is rewritten without acknowledged tasks, which leaves little."""
WRITE_AGAIN_S = 0.5
"""How soon a failed write to the journal is repeated (disk full). Meanwhile only signs of life are sent, and tasks run on."""
TIDY_AGAIN_S = 60.0
"""How soon a failed compaction, or checkpoint of the slave, is repeated: neither is urgent."""


class Persistence:
    """Writes to a work directory, and reports results as events through `emit`."""

    def __init__(
        self,
        workdir: WorkDir,
        journal: Journal,
        boot_id: str,
        emit: Callable[[ev.Event], None],
        write_line: Callable[[int, str], None],
        stop: Callable[[], None],
    ) -> None:
        """`write_line(level, text)` logs what an executor may have caused; `stop` ends a slave whose disk cannot be trusted."""
        self.records: list[JournalRecord] = []
        """Records to be written at the end of the turn."""
        self.wanted_syncs: list[int] = []
        """Numbers of syncs to be done after that."""
        self._workdir, self._journal, self._boot_id = workdir, journal, boot_id
        self._emit, self._write_line, self._stop = emit, write_line, stop
        self._storer = Storer(journal)
        self.syncs = self._storer.syncs
        """How long each sync of the journal took."""
        self._stored: list[int] = []  # syncs that this turn has done in the loop's own thread
        self._write_again_at: float | None = None
        self._fault = ""
        self._compact_above_bytes = COMPACT_BYTES
        self._tidy_at = 0.0
        self._unsaved: act.SaveSlave | None = None

    @property
    def fd(self) -> int:
        """Readable when `synced` is to be called."""
        return self._storer.fd

    def next_deadline(self) -> float | None:
        """When a write is to be tried again."""
        return self._write_again_at

    # -- the journal ----------------------------------------------------------------------------------------------------

    def write(self, now: float, tasks: int) -> bool:
        """Write the turn's records, then do the wanted syncs; `tasks`: how many tasks run. False if the disk refuses: then
        nothing that depends on the records may be sent, and the next call tries again.
        """
        if self._write_again_at is not None and now < self._write_again_at:
            return False
        if self.records:
            try:
                refused = self._storer.write(self.records)
            except OSError as error:
                self._cannot_write(error, now)
                return False
            self.records.clear()
            for record, why in refused:
                self._write_line(logging.ERROR, f"cannot write a record of a task: {printable(why)}")
                self._emit(ev.RecordRefused(record, printable(why)))
        if self._write_again_at is not None:
            self._write_again_at = None
            self._fault = ""
            log.info("writing to %s again", self._journal.path)
        for number in self.wanted_syncs:
            self._sync(number, tasks)
        self.wanted_syncs.clear()
        return True

    def _cannot_write(self, error: OSError, now: float) -> None:
        if self._write_again_at is None:
            log.error(
                "cannot write to %s: %s; tasks run on, nothing is reported",
                self._journal.path,
                error.strerror,
            )
            self._fault = error.strerror or str(error)
            self.look_at_disk()
        self._write_again_at = now + WRITE_AGAIN_S

    def _sync(self, number: int, tasks: int) -> None:
        try:
            if self._storer.sync_now(tasks):
                self._stored.append(number)
            else:
                self._storer.sync(number)
        except OSError as error:
            self._give_up_disk(error)

    def take_stored(self) -> list[int]:
        """The syncs that `write` has done in the loop's own thread, once: what waited for them may be sent in this turn."""
        stored, self._stored = self._stored, []
        return stored

    def synced(self) -> None:
        """`fd` is readable: the thread has finished syncs."""
        for number, error in self._storer.finished():
            if error is None:
                self._emit(ev.Stored(number))
            else:
                self._give_up_disk(error)

    def _give_up_disk(self, error: OSError) -> None:
        """Stop the slave: after a failed sync the kernel may have dropped pages, so that later syncs prove nothing."""
        log.critical("the journal cannot be synced to the disk: %s; ending (tasks run on)", error.strerror)
        self._stop()

    def look_at_disk(self) -> None:
        """Report to the core how much is free, and whether the disk can be written."""
        measured = self._workdir.look_at_disk()
        if self._fault:  # the journal cannot be written, even if there is room again
            measured = ev.DiskMeasured(measured.free_bytes, measured.size_bytes, self._fault)
        self._emit(measured)

    # -- the rest, when there is time -----------------------------------------------------------------------------------

    def tidy(self, now: float, core: SlaveCore) -> None:
        """Write the slave's own checkpoint, if that failed before, and compact a journal that has grown too large."""
        if now < self._tidy_at:
            return
        if self._unsaved is not None:
            self.save_slave(self._unsaved)
        is_large = self._journal.size_bytes > self._compact_above_bytes
        if is_large and self._storer.idle and not self.records:
            self.compact(now, core)

    def compact(self, now: float, core: SlaveCore) -> None:
        """Rewrite the journal with only the records that this core still needs."""
        try:
            self._journal.compact(live_records(core.state, core.statuses))
        except OSError as error:
            self._tidy_at = now + TIDY_AGAIN_S
            log.error("cannot rewrite %s: %s; it keeps growing", self._journal.path, error.strerror)
            return
        # If most of it is still needed, the next rewrite should not come soon: it would gain little.
        self._compact_above_bytes = max(COMPACT_BYTES, 2 * self._journal.size_bytes)

    def save_slave(self, action: act.SaveSlave) -> None:
        """Write the slave's own checkpoint. If that fails, the slave goes on and tries again: without it, a restart would only
        register as a new slave, or obey an older leader."""
        self._unsaved = None
        try:
            self._workdir.save_slave(action, self._boot_id)
        except (OSError, UnwritableRecord) as error:
            self._unsaved = action
            self._tidy_at = time.monotonic() + TIDY_AGAIN_S
            log.error("cannot save the slave's id: %s; trying again", error)

    def close(self) -> None:
        """End the thread that syncs, and close the journal."""
        self._storer.close()
        self._journal.close()
