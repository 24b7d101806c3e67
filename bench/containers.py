"""Containers of a Docker engine: how long until a task runs in a new one, beside `docker run` of the same image; and how many
no-op commands per second run in an existing one, beside the module `noop`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from batches import wait_ended
from figures import Bound, Findings, Row, Samples, beside, percentile
from offerd.driver import SchedulerDriver
from offerd.errors import OfferdError
from offerd.messages import CommandInfo
from offerd.resources import Resources
from offerd_cli.batch import INLINE_OUTPUT, Batch, Started, framework
from offerd_cli.local_cluster import LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers import docker_engine
from helpers.docker_engine import SMALL, DockerEngine

BOUND_START = 1.15
BOUND_RATE = 1 / 1.3
SIZE = Resources.of(cpus=0.5, mem="32M")


def measure(quick: bool) -> Findings:
    """Needs root and dockerd. Raises `OfferdError` without them."""
    if reason := docker_engine.missing():
        raise OfferdError(reason)
    with docker_engine.engine() as engine:
        os.environ["DOCKER_HOST"] = engine.address
        options = ("--image", SMALL, "--pull", "never")
        with (
            LocalCluster(1, cpus="4", mem="2G", isolation="docker", slave_options=options) as inside,
            LocalCluster(1, cpus="4", mem="2G", isolation="noop") as outside,
        ):
            findings = starts(engine, inside, 5 if quick else 30)
            findings.rows += rates(inside, outside, 500 if quick else 4000, 2 if quick else 5).rows
    return findings


def starts(engine: DockerEngine, cluster: LocalCluster, count: int) -> Findings:
    """Measure pairs, one after the other."""
    ours, theirs = [], []
    first_start(cluster)  # opens the Docker SDK's connection
    docker_run(engine)
    for _ in range(count):
        ours.append(1000 * first_start(cluster))
        theirs.append(1000 * docker_run(engine))
    bound = Bound(BOUND_START, at_least=False, of_ratio=True)
    ratios = beside(ours, theirs)
    p99 = Samples.of([percentile(ours, 99)])
    their_p99 = Samples.of([percentile(theirs, 99)])
    return Findings(
        [
            Row(
                "a new framework's first task RUNNING in a new container",
                "ms",
                Samples.of(ours),
                Samples.of(theirs),
                "`docker run -d`",
                ratios,
                bound,
            ),
            Row(
                "the same, p99", "ms", p99, their_p99, "`docker run -d`", beside(p99.values, their_p99.values)
            ),
        ]
    )


def first_start(cluster: LocalCluster) -> float:
    """Seconds from a framework's registration to its task's RUNNING: offer, container, executor, command."""
    batch = Batch(1, lambda _: CommandInfo(argv=["sleep", "100"]), SIZE, prefix="start", time_limit_s=60.0)
    driver = SchedulerDriver(batch, framework("start"), cluster.address)
    began = time.perf_counter()
    driver.start()
    try:
        event = batch.events.get(timeout=60)
        if not isinstance(event, Started):
            raise OfferdError(f"it did not start: {event}")
        return time.perf_counter() - began
    finally:
        driver.stop()
        driver.join(60)


def docker_run(engine: DockerEngine) -> float:
    """Seconds of `docker run -d`, which returns when the container is running."""
    command = ["docker", "-H", engine.address, "run", "-d", "--network", "none", SMALL, "sleep", "100"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - began
    with engine.api() as api:
        api.containers.get(done.stdout.strip()).remove(force=True)
    return elapsed


def rates(inside: LocalCluster, outside: LocalCluster, count: int, runs: int) -> Findings:
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(rate(inside, count))
        theirs.append(rate(outside, count))
    bound = Bound(BOUND_RATE, of_ratio=True)
    row = Row(
        "no-op commands, a task each, in a container that runs",
        "/s",
        Samples.of(ours),
        Samples.of(theirs),
        "the module noop",
        beside(ours, theirs),
        bound,
    )
    return Findings([row])


def rate(cluster: LocalCluster, count: int) -> float:
    """Tasks per second from the first tenth to the end, so without the executor's start."""
    batch = Batch(
        count,
        lambda _: CommandInfo(argv=["true"]),
        SIZE,
        prefix="true",
        time_limit_s=60.0,
        labels=INLINE_OUTPUT,
        report_starts=False,
    )
    driver = SchedulerDriver(batch, framework("true"), cluster.address)
    driver.start()
    try:
        wait_ended(batch, count // 10)
        began = time.perf_counter()
        wait_ended(batch, count - count // 10)
        return (count - count // 10) / (time.perf_counter() - began)
    finally:
        driver.stop()
        driver.join(60)
