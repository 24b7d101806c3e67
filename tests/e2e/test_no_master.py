"""A program that waits for a master says for what and since when, at once and then now and then."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import zmq

from helpers import leftovers
from helpers.cli import environment, listing, wait_until
from offerd.credentials.keys import new_key
from offerd_cli.local_cluster import LocalCluster

SOON = """
import sys
from offerd.masters import absence
from offerd_cli.main import main

absence.SAY_AGAIN_S = (2.0,)
absence.LOOK_EVERY_S = 1.0
sys.exit(main(sys.argv[1:]))
"""
"""`offerd` that repeats its notices every two seconds."""


class Program:
    """A running `offerd` and its output."""

    def __init__(self, cluster: LocalCluster, log: Path, *words: str, **variables: str) -> None:
        self.words = words
        self._log = log
        with log.open("wb") as stderr, log.with_suffix(".out").open("wb") as stdout:
            self.process = leftovers.start(
                [sys.executable, "-P", "-c", SOON, *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment(cluster, **variables),
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def printed(self) -> str:
        return self._log.with_suffix(".out").read_text(errors="replace")

    def waits(self, what_for: str) -> list[str]:
        """Its lines about a master that is away for this reason."""
        return re.findall(
            rf"no master for [0-9]+ (?:s|min): .*{re.escape(what_for)}.*; still trying", self.said
        )

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_slave_without_a_master_repeats_what_is_wrong_or_ends_with_that(
    tmp_path: Path,
) -> None:
    foreign, _ = new_key("foreign", tmp_path)
    _, another = new_key("another", tmp_path)
    port = free_port()
    with LocalCluster(slaves=0) as cluster:
        key, own_key, known_by, master_key = cluster.key_words()
        known = [key, own_key, known_by, master_key]

        def slave(name: str, master: str, *words: str) -> Program:
            where = ["--work-dir", str(tmp_path / name), "--http-port", "0", "--isolation", "noop"]
            words = ("slave", "--master", master, *where, *words)
            # The store of this run has the cluster's key.
            return Program(
                cluster, tmp_path / f"{name}.log", *words, OFFERD_CONFIG=str(tmp_path / "no-store")
            )

        waiting = {
            f"nothing listens at 127.0.0.1:{port}": slave("port", f"127.0.0.1:{port}", *known),
            "the name no-such-host.invalid cannot be resolved: ": slave(
                "name", "no-such-host.invalid", *known
            ),
            f"the server at {cluster.address} has another key than the one that we know the master by": slave(
                "key", cluster.address, key, own_key, known_by, str(another)
            ),
            f"no ZooKeeper server can be reached: nothing listens at 127.0.0.1:{port}": slave(
                "zk", f"zk://127.0.0.1:{port}/offerd", *known
            ),
        }
        ended = {
            "offerd: the master does not know our key; have the operator": slave(
                "foreign", cluster.address, key, str(foreign), known_by, master_key
            ),
            f"offerd: no key for the cluster at {cluster.address} here: ask its operator": slave(
                "insecure", cluster.address, "--insecure"
            ),
        }
        for why, program in waiting.items():
            wait_until(lambda p=program, w=why: len(p.waits(w)) > 1, f"{why}, twice")  # type: ignore[misc]
        for why, program in ended.items():
            assert program.process.wait(40) == 1
            assert why in program.said.splitlines()[-1]
        for program in waiting.values():
            assert program.end(signal.SIGTERM) == 0


def test_commands_say_what_they_wait_for_and_that_tasks_may_run_on(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("a line\n")
    with LocalCluster(slaves=1, cpus="4", mem="1G", isolation="noop") as cluster:

        def program(*words: str) -> Program:
            return Program(cluster, tmp_path / f"{words[0]}.log", *words)

        where = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]
        job = program("mapreduce", *where, "--mapper", "sleep 600", "--reduces", "0")
        batch = program("map", "sleep", ":::", "600", "601")
        run = program("run", "--name", "shown", "--", "sh", "-c", "echo begun; exec sleep 600")

        def running() -> list[str]:
            tasks = listing(cluster, "tasks")["tasks"]
            return [task["task_id"] for task in tasks if task["state"] == "TASK_RUNNING"]

        wait_until(lambda: len(running()) == 4, "the tasks to run")
        log = program("logs", "-f", next(task for task in running() if task.startswith("shown-")))
        drain = program("drain", "slave-1")
        wait_until(lambda: "slave-1 is draining; 4 tasks run there" in drain.said, "the drain to begin")
        wait_until(lambda: log.printed == "begun\n", "the log")
        cluster.kill_master()
        why = f"nothing listens at {cluster.address}"
        for each in (job, batch, run, log, drain):
            what = f"offerd {each.words[0]} to say what it waits for, twice"
            wait_until(lambda p=each: len(p.waits(why)) > 1, what)  # type: ignore[misc]
            assert each.process.poll() is None
        assert (job.end(), batch.end(), run.end()) == (130, 130, 130)
        assert "offerd mapreduce: the master is away and cannot kill 1 task: it may run on" in job.said
        assert "offerd map: the master is away and cannot kill 2 tasks: they may run on" in batch.said
        assert "offerd run: the master is away and cannot kill 1 task: it may run on" in run.said
        cluster.restart_master()
        for each in (log, drain):
            wait_until(lambda p=each: "a master answers, after " in p.said, "the master to be found")  # type: ignore[misc]
            each.end()


def test_a_slave_finds_its_master_where_something_else_has_listened_meanwhile() -> None:
    with LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop") as cluster:
        cluster.kill_master()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.ROUTER) as another:
            another.bind(f"tcp://{cluster.address}")
            log = cluster.slaves[0].log
            wait_until(lambda: "uses no keys" in log.read_text(), "the slave to find it")
        cluster.restart_master()
        cluster.wait_for_slaves(1)
