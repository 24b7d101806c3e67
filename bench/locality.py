"""The fraction of maps that read their block locally, with waits of 0, 1 s and 5 s (Mesos, NSDI 2011, section 4.3).

There are eight slaves, one replica of each block, and four frameworks that want the whole cluster at once. So a slave with a
job's blocks is usually in use by another framework.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from figures import Bound, Findings, Row, Samples
from offerd_cli.local_cluster import LocalCluster
from offerd_frameworks import mapreduce
from offerd_frameworks.mapreduce import blocks

SLAVES = 8
FRAMEWORKS = 4
BLOCKS, QUICK_BLOCKS = 48, 24
MAP_S = 0.4
BLOCK_BYTES = 4_000


def measure(quick: bool) -> Findings:
    """One row for each wait."""
    number = QUICK_BLOCKS if quick else BLOCKS
    findings = Findings()
    with (
        tempfile.TemporaryDirectory(prefix="offerd-bench-") as folder,
        LocalCluster(SLAVES, cpus="1", mem="512M", isolation="noop") as cluster,
    ):
        base = Path(folder)
        (base / "text").write_bytes((b"x" * (BLOCK_BYTES - 1) + b"\n") * number)
        on = blocks.hosts(cluster.address)
        blocks.put("text", [str(base / "text")], on, replicas=1, block_bytes=BLOCK_BYTES)
        for wait_s, bound in ((0.0, None), (1.0, Bound(90.0)), (5.0, Bound(95.0))):
            shares, seconds = _run(cluster.address, base / f"{wait_s:g}", wait_s)
            name = f"wait of {wait_s:g} s" if wait_s else "no wait"
            what = f"maps that read in place, {name}"
            findings.rows.append(Row(what, "%", Samples.of(shares), bound=bound))
            findings.rows.append(Row(f"... and the jobs' time, {name}", "s", Samples.of(seconds)))
    return findings


def _run(address: str, base: Path, wait_s: float) -> tuple[list[float], list[float]]:
    """Local fraction in percent, and time of each framework's job, all running at the same time."""
    base.mkdir()
    summaries: list[mapreduce.Summary] = []

    def one(number: int) -> None:
        job = mapreduce.Job(
            input=("data:text",),
            output=str(base / str(number)),
            mapper=f"sleep {MAP_S}; wc -c",
            reduces=0,
            cpus="1",
            mem="32M",
            delay_s=wait_s,
            speculate=False,
        )
        with mapreduce.MapReduce(address, name=f"locality {number}") as framework:
            summaries.append(framework.submit(job).result(300))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(FRAMEWORKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(summaries) < FRAMEWORKS:
        raise RuntimeError("a job has failed; see above")
    return [100.0 * (one.locality or 0.0) for one in summaries], [one.elapsed_s for one in summaries]
