"""Fail-over with two masters, a real ZooKeeper and very many slaves: the time until all slaves and frameworks are back."""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection

import psutil

from children import START_TIMEOUT_S, child
from figures import Bound, Findings, Row, Samples
from many_peers import serve_schedulers, serve_slaves
from offerd.errors import OfferdError
from offerd.masters.leader import in_line, parse_zookeeper
from offerd.masters.zookeeper_access import new_client
from offerd_cli.local_cluster import LocalCluster

SESSION_S = 4.0
FRAMEWORKS = 200
SLAVES_PER_PROCESS = 1_000
SIZES = (200, 1_000, 4_000)
RUNS = 3
DEMANDED_S = 2.0
PAPER_S = "the paper: 4 to 8 s from the failure, with 4,000 slaves"


def measure(quick: bool) -> Findings:
    """Measure each size with a new cluster."""
    findings = Findings()
    for size in SIZES[:1] if quick else SIZES:
        from_death, from_expiry, master_cpu, peers_cpu = _measure_size(size, 1 if quick else RUNS)
        bound = Bound(DEMANDED_S, at_least=False) if size == max(SIZES) else None
        what = f"master fail-over, {size:,} slaves, {FRAMEWORKS} frameworks"
        findings.rows.append(
            Row(f"{what}: session's expiry to all back", "s", Samples.of(from_expiry), bound=bound)
        )
        findings.rows.append(Row(f"{what}: kill -9 to all back", "s", Samples.of(from_death)))
        each_us = [1e6 * seconds / (size + FRAMEWORKS) for seconds in master_cpu]
        findings.rows.append(Row(f"{what}: cpu time of the new master for each", "us", Samples.of(each_us)))
        share = statistics.median(
            peers / (peers + master) for peers, master in zip(peers_cpu, master_cpu, strict=True)
        )
        findings.notes.append(
            f"With {size:,} slaves the simulated ones used {share:.0%} of the cpu time that they and the new master used from "
            "the kill on."
        )
    findings.notes.append(
        f"Fail-over: two masters, ZooKeeper with a session time-out of {SESSION_S:g} s, one running task per slave, no keys; "
        f"slaves and schedulers are their real cores over real sockets, {SLAVES_PER_PROCESS:,} in a process, on the cores of "
        f"the masters. "
        f"All back: the last of them has got its registration from the new master. For comparison, {PAPER_S}."
    )
    return findings


def _measure_size(slaves: int, runs: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """For each run: seconds from death, seconds from expiry, cpu seconds of the new master and of all simulated peers."""
    options = ("--zk-session-timeout", f"{SESSION_S:g}s")
    with (
        LocalCluster(slaves=0, masters=2, zk="auto", master_options=options, insecure=True) as cluster,
        ExitStack() as stack,
    ):
        pipes: list[Connection] = []
        for first in range(0, slaves, SLAVES_PER_PROCESS):
            count = min(SLAVES_PER_PROCESS, slaves - first)
            pipes.append(stack.enter_context(child(serve_slaves, cluster.address, first, count, FRAMEWORKS)))
        pipes.append(stack.enter_context(child(serve_schedulers, cluster.address, FRAMEWORKS)))
        _all_back(pipes)
        from_death, from_expiry, master_cpu, peers_cpu = [], [], [], []
        for _ in range(runs):
            expiry = Expiry(cluster.address)
            killed = time.monotonic()
            old = cluster.kill_leader()
            (new,) = (master.pid for master in cluster.masters if master is not old)
            peers = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
            cpu_before = _cpu_s([new]), _cpu_s(peers)
            back = _all_back(pipes)
            master_cpu.append(_cpu_s([new]) - cpu_before[0])
            peers_cpu.append(_cpu_s(peers) - cpu_before[1])
            from_death.append(back - killed)
            from_expiry.append(back - expiry.wait())
            old.start()
            _wait_for_standby(cluster)
        _check(cluster, slaves)
    return from_death, from_expiry, master_cpu, peers_cpu


def _cpu_s(pids: list[int]) -> float:
    """CPU seconds that these processes have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


def _all_back(pipes: list[Connection]) -> float:
    """When the last peer was registered; all must be by the same master."""
    reported: list[tuple[str, float]] = []
    for pipe in pipes:
        if not pipe.poll(START_TIMEOUT_S):
            raise TimeoutError(f"waited {START_TIMEOUT_S:g} s in vain for all peers to be registered")
        reported.append(pipe.recv())
    if len({master for master, _ in reported}) != 1:
        raise OfferdError(
            f"peers were registered by several masters: {sorted({master for master, _ in reported})}"
        )
    return max(when for _, when in reported)


def _wait_for_standby(cluster: LocalCluster) -> None:
    client = new_client(parse_zookeeper(cluster.address))
    client.start()
    try:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while len(in_line(client.get_children(parse_zookeeper(cluster.address).path))) < len(cluster.masters):
            if time.monotonic() > give_up_at:
                raise TimeoutError("waited in vain for the standby")
            time.sleep(0.05)
    finally:
        client.stop()
        client.close()


def _check(cluster: LocalCluster, slaves: int) -> None:
    """Check that the new master knows every slave, framework and task."""
    with cluster.ask() as client:
        known = client.cluster()
    found = (
        known.slaves,
        known.frameworks,
        known.tasks.get("TASK_STAGING", 0) + known.tasks.get("TASK_RUNNING", 0),
    )
    if found != (slaves, FRAMEWORKS, slaves):
        raise OfferdError(f"the new master knows {found} slaves, frameworks and tasks")


class Expiry:
    """Notes when the leader's node is removed, because ZooKeeper has ended its session."""

    def __init__(self, master: str) -> None:
        address = parse_zookeeper(master)
        self._client = new_client(address)
        self._client.start()
        self._gone = threading.Event()
        self._at = 0.0
        leader = in_line(self._client.get_children(address.path))[0]
        self._client.exists(f"{address.path}/{leader}", watch=self._note)

    def _note(self, _event: object) -> None:
        self._at = time.monotonic()
        self._gone.set()

    def wait(self) -> float:
        if not self._gone.wait(START_TIMEOUT_S):
            raise TimeoutError("the leader's session did not end")
        self._client.stop()
        self._client.close()
        return self._at
