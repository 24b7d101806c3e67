"""Asks the slave of a work directory to drain, and waits until it is gone."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
from pathlib import Path

from offerd.errors import BadInput, OfferdError
from offerd.pidfds import open_pidfd
from offerd_cli.screen import say


def drain_slave(work_dir: Path) -> int:
    """Send the slave of `work_dir` SIGUSR1 and wait for its end. Raises `BadInput` if none runs there.

    The slave holds a lock on the file that names its pid: as long as the lock is held the pid is that slave's, and
    the pidfd opened then stays its own whatever comes.
    """
    pid = _holder(work_dir)
    pidfd = open_pidfd(pid)
    if pidfd is None:
        raise BadInput(f"no slave runs on {work_dir}")
    try:
        if _holder(work_dir) != pid:
            raise OfferdError(f"the slave of {work_dir} was replaced meanwhile; ask again")
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
        except PermissionError:
            raise OfferdError(f"slave {pid} belongs to another user; ask as that user or as root") from None
        say(f"slave {pid} drains")
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)
    return 0


def _holder(work_dir: Path) -> int:
    """The pid of the slave that holds the lock. Raises `BadInput` with one line if none does."""
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
                f"{work_dir} is no slave's work directory; give the one of the slave with --work-dir"
            ) from None
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    raise BadInput(f"no slave runs on {work_dir}")
