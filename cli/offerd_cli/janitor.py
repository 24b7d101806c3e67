"""Cleans up after a local cluster whose owner was killed: `python -m offerd_cli.janitor BASE [STORE]`, reading a pipe.

The owner holds the other end of stdin; at end of file the owner is gone. Its daemons then end by themselves, since the kernel
sends them a signal when their parent dies. After a grace the janitor kills what is left, removes the directory, and removes the
cluster's name from the store of credentials in the directory STORE. If the owner has cleaned up itself, there is no directory
and nothing to do. Until then it imports no library, since it lives as long as the cluster.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from offerd_cli.sweep import sweep
from offerd_slave.removal import try_to_remove

GRACE_S = 5.0


def main() -> int:
    """Wait for the owner's end, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    base = Path(sys.argv[1])
    sys.stdin.buffer.read()
    if not base.exists():
        return 0
    swept = sweep(base, grace_s=GRACE_S)
    try_to_remove(base)
    for store in sys.argv[2:]:
        from offerd.masters.clusters import Store

        Store(store).forget_local(str(base))
    return 0 if swept else 1


if __name__ == "__main__":
    sys.exit(main())
