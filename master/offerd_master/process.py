"""The master as a process: its log, its signals, the file that says where it listens, and its end."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType

from offerd.daemons.daemon_log import log_to_stderr
from offerd.errors import BadInput, OfferdError
from offerd.wire.descriptors import raise_limit
from offerd_master.daemon import Master
from offerd_master.options import MasterOptions

log = logging.getLogger("offerd.master")


def run_master(options: MasterOptions) -> int:
    """Run a master in this process until SIGTERM or SIGINT; returns the exit status.

    Raises `BadInput` with one line if it cannot start: the address is taken, is not this host's or not safe; no such module.
    """
    raise_limit()
    log_to_stderr("offerd.master", "offerd.recorder", "offerd.zookeeper")
    master = Master(options)

    orders = {signal.SIGTERM: master.stop, signal.SIGINT: master.stop, signal.SIGUSR2: master.record}
    if options.read_policy is not None or options.secret:
        orders[signal.SIGHUP] = master.reread_terms

    def obey(number: int, frame: FrameType | None) -> None:
        orders[signal.Signals(number)]()

    # A signal must also end the wait inside zmq_poll; the interpreter's handler alone would not.
    wakeup_before = signal.set_wakeup_fd(master.wakeup_fd, warn_on_full_buffer=False)
    handlers_before = {number: signal.signal(number, obey) for number in orders}
    try:
        if options.address_file is not None:
            write_address(Path(options.address_file), master.address)
        log.info("master listens on %s", master.address)
        if not options.secret:
            log.warning(
                "this master has no keys: anybody who reaches %s may run commands on every slave",
                master.address,
            )
        master.run()
    except Exception as error:
        if not isinstance(error, OfferdError):
            master.crashed(error)
        raise
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        master.close()
    log.info("master stopped")
    return 0


def write_address(path: Path, address: str) -> None:
    """Replace the whole file, so that nobody reads half an address. Raises `BadInput` if it cannot be written."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(f"{address}\n")
        new.rename(path)
    except OSError as error:
        raise BadInput(f"cannot write the address file {path}: {error.strerror}") from None
