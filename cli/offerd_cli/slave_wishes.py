"""Drains or activates the slave of a work directory on this host, and waits until it has obeyed."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
from pathlib import Path

from offerd.errors import BadInput, OfferdError
from offerd_cli.draining import LOOK_AGAIN_S, deadline_text
from offerd_cli.screen import say
from offerd_linux.pidfds import open_pidfd
from offerd_slave.checkpoint import DamagedCheckpoint, read_checkpoint, write_checkpoint
from offerd_slave.records import SLAVE_FILE, WISH_FILE, SlaveCheckpoint, Wish


def drain_slave(work_dir: Path, deadline_s: float | None = None) -> int:
    """Drain the slave of `work_dir`, and wait for that. Raises `BadInput` if none runs there."""
    with _Slave(work_dir) as slave:
        slave.ask(Wish("draining", deadline_s))
        say(f"slave {slave.pid} is draining; {deadline_text(deadline_s)}")
        slave.wait_for("drained")
    say("drained; `offerd slave --activate`, or `offerd activate` from any host, undoes that")
    return 0


def activate_slave(work_dir: Path) -> int:
    """Activate the slave of `work_dir`. Raises `BadInput` if none runs there."""
    with _Slave(work_dir) as slave:
        slave.ask(Wish("active"))
        slave.wait_for("active")
    return 0


class _Slave:
    """The slave that holds the lock on its pid file. While the lock is held the pid is that slave's, and a pidfd opened in that
    time stays the slave's.
    """

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self.pid = _holder(work_dir)
        pidfd = open_pidfd(self.pid)
        if pidfd is None:
            raise BadInput(f"no slave runs on the work directory {work_dir}; name another with --work-dir")
        self._pidfd = pidfd

    def __enter__(self) -> _Slave:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pidfd)

    def ask(self, wish: Wish) -> None:
        """Write the wish where the slave looks for it, owned by the slave's user, and send SIGUSR1."""
        work_dir = self._work_dir
        if _holder(work_dir) != self.pid:
            raise OfferdError(f"another slave has been started on {work_dir} meanwhile; run this again")
        try:
            write_checkpoint(work_dir / WISH_FILE, wish)
            if os.geteuid() == 0:
                owner = work_dir.stat()
                os.chown(work_dir / WISH_FILE, owner.st_uid, owner.st_gid, follow_symlinks=False)
            signal.pidfd_send_signal(self._pidfd, signal.SIGUSR1)
        except PermissionError:
            raise OfferdError(
                f"slave {self.pid} belongs to another user; run this as that user, or as root"
            ) from None
        except ProcessLookupError:
            raise BadInput(
                f"no slave runs on the work directory {work_dir}; name another with --work-dir"
            ) from None
        except OSError as error:
            raise OfferdError(f"cannot write to {work_dir}: {error.strerror}") from None

    def wait_for(self, mode: str) -> None:
        """Wait until the slave has stored this mode. Raises `OfferdError` if it ends before."""
        while self._mode() != mode:
            if select.select([self._pidfd], [], [], LOOK_AGAIN_S)[0] and self._mode() != mode:
                raise OfferdError(
                    f"slave {self.pid} has ended before it was {mode}; it will be {mode} when it is started again"
                )

    def _mode(self) -> str:
        try:
            return read_checkpoint(self._work_dir / SLAVE_FILE, SlaveCheckpoint).mode
        except FileNotFoundError:
            return "active"  # no other mode was ever ordered
        except (OSError, DamagedCheckpoint) as error:
            raise OfferdError(f"cannot read the slave's mode: {error}") from None


def _holder(work_dir: Path) -> int:
    """The pid of the slave that holds the lock. Raises `BadInput` with one line if there is none."""
    path = work_dir / "lock"
    try:
        with path.open("rb") as file:
            text = file.read(32)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        if text.strip().isdigit():
            return int(text)
        raise BadInput(
            f"{path} is locked but names no process; is {work_dir} a slave's work directory?"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise BadInput(
                f"{work_dir} is not a slave's work directory; give the right one with --work-dir"
            ) from None
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    raise BadInput(f"no slave runs on the work directory {work_dir}; name another with --work-dir")
