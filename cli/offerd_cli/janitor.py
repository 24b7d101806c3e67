"""Cleans up after a local cluster whose owner was killed: `python -m offerd_cli.janitor BASE [STORE]`, reading a pipe.

The owner holds the other end of stdin. At its end of file the owner is gone: its daemons end by themselves (they asked
the kernel for a signal at their parent's death); what is left after a grace is killed, the directory removed, and the cluster's
name with it from the store of credentials in the directory STORE. If the owner cleaned up itself there is no directory any
more, and nothing to do. While it waits it has the standard library only: it lives as long as the cluster.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from offerd.daemons.removal import try_to_remove
from offerd_cli.sweep import sweep

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
        from offerd.credentials.clusters import Store

        Store(store).forget_local(str(base))
    return 0 if swept else 1


if __name__ == "__main__":
    sys.exit(main())
