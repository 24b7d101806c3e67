"""`make chaos`: random faults on a cluster of real daemons while a framework keeps a ledger of its tasks.

    python -m chaos [--seed N] [--seconds S] [--tasks N]

Ends with 0 if the ledger balances and no daemon has ended by itself. The seed repeats the faults; when they hit, the machine
decides.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.cluster import ChaosCluster
from chaos.faults import Faults
from chaos.ledger import Ledger
from offerd.daemons.recorder import SUFFIX
from offerd_cli.local_cluster import LocalCluster
from offerd_slave.settings import SlaveSettings

SETTLE_S = 90.0
"""How long after the last fault every task may take to end."""
RECOUNT_S = SlaveSettings().update_retry_s + 2.0
"""How long after the last task's end slaves may repeat statuses, of which none may be a second end."""
PAUSE_S = (0.3, 3.0)
RECORDED_S = 20.0
"""How long daemons may take to write their recordings."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long faults go on (240)")
    parser.add_argument("--tasks", type=int, default=10_000, help="how many (10,000)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    return 0 if run(seed, options.seconds, options.tasks) else 1


def run(seed: int, seconds: float, tasks: int, *, quiet: bool = False) -> bool:
    """Whether the ledger balanced and no daemon ended by itself. Everything is printed, the seed first."""
    say(f"chaos: seed {seed}, {tasks:,} tasks, faults for {seconds:g} s", quiet=False)
    with tempfile.TemporaryDirectory(prefix="offerd-effects-") as directory, ChaosCluster() as cluster:
        Path(directory).chmod(0o777)
        for what in cluster.missing:
            say(f"  not tried: {what}", quiet=False)
        ledger = Ledger(cluster.address, Path(directory), tasks, seconds * 0.9, seed)
        ledger.driver.start()
        ledger.driver.wait_registered(60)
        faults = Faults(cluster, seed)
        disturb(faults, ledger, seconds, quiet)
        settle(faults, ledger, quiet)
        ledger.driver.stop()
        ledger.driver.join(10)
        complaints = [*faults.complaints, *ledger.complaints()]
        recordings = keep_recordings(cluster) if complaints else None
    struck = ", ".join(f"{number} {name}" for name, number in faults.counts.most_common())
    say(f"faults: {sum(faults.counts.values())}: {struck}", quiet=False)
    say(f"registered {ledger.registrations} times; ends: {ledger.summary()}", quiet=False)
    for complaint in complaints[:20]:
        say(f"  {complaint}", quiet=False)
    if recordings is not None:
        say(f"what each daemon saw: offerd debug replay {recordings}/*.recording", quiet=False)
    balanced = not complaints
    verdict = "the ledger balances" if balanced else f"{len(complaints)} things are wrong"
    say(f"chaos: {verdict}: {ledger.ended:,} of {tasks:,} tasks ended; seed {seed}", quiet=False)
    return balanced


def disturb(faults: Faults, ledger: Ledger, seconds: float, quiet: bool) -> None:
    """Cause fault after fault, and do the repairs that are due in between."""
    begun = time.monotonic()
    next_at = begun + 1.0
    while (now := time.monotonic()) < begun + seconds:
        if now >= next_at:
            what = faults.strike()
            if what:
                say(f"{now - begun:6.1f} s  {ledger.ended:6,} ended   {what}", quiet=quiet)
            next_at = time.monotonic() + faults.random.uniform(*PAUSE_S)
        faults.mend()
        time.sleep(0.05)


def settle(faults: Faults, ledger: Ledger, quiet: bool) -> None:
    """Repair everything, wait for the end of every task, and then for a while, in which none may end a second time."""
    faults.mend(everything=True)
    say("        all is mended", quiet=quiet)
    give_up_at = time.monotonic() + SETTLE_S
    while ledger.ended < ledger.count and time.monotonic() < give_up_at:
        faults.mend()
        time.sleep(0.1)
    look_until = time.monotonic() + RECOUNT_S
    while time.monotonic() < look_until:
        faults.mend()
        time.sleep(0.1)


def keep_recordings(cluster: LocalCluster) -> Path:
    """Have each running daemon write its recording; returns the directory of all recordings."""
    kept = Path(tempfile.mkdtemp(prefix="offerd-recordings-"))
    running = [daemon for daemon in (*cluster.masters, *cluster.slaves) if daemon.running]
    directories = [cluster.base, *(slave.work_dir for slave in cluster.slaves if slave.work_dir is not None)]

    def written() -> set[Path]:
        return {path for directory in directories for path in directory.rglob(f"*{SUFFIX}")}

    before, give_up_at = len(written()), time.monotonic() + RECORDED_S
    for daemon in running:
        daemon.signal(signal.SIGUSR2)
    while len(written()) < before + len(running) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    for path in written():
        shutil.copy(path, kept / f"{path.parent.parent.name}-{path.name}")
    return kept


def say(text: str, *, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
