"""Clusters without an IPv4 address anywhere: on loopback (::1), and on two hosts whose network has IPv6 alone."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.ipv6 import NO_IPV6, has_ipv6
from helpers.machines import Machine
from helpers.netns import Hosts

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not has_ipv6(), reason=NO_IPV6),
]

CALLS = """
import offerd
with offerd.ClusterExecutor(timeout=60) as executor:
    print(len(executor.submit(bytes, 1 << 20).result(timeout=60)), *executor.map(abs, [-1, -2]))
"""


class Cluster(NamedTuple):
    """`master` is where the master is, at `address`; the slave, at `slave_ip`, is on the last of `machines`."""

    machines: list[Machine]
    address: str
    slave_ip: str

    @property
    def master(self) -> Machine:
        return self.machines[0]

    def offerd(self, *words: str) -> str:
        """On the master's host; what it prints."""
        done = self.master.offerd(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["loopback", "hosts"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    place = tmp_path_factory.mktemp("ipv6")
    names = ["alpha"] if request.param == "loopback" else ["alpha", "beta"]
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(len(names), "fd77:5060::"))
        machines = [
            stack.enter_context(Machine(hosts, number, name, place / name))
            for number, name in enumerate(names)
        ]
        own = "::1" if len(machines) == 1 else machines[0].address
        made = Cluster(machines, f"[{own}]:5060", "::1" if len(machines) == 1 else machines[1].address)
        # Without an IPv4 address the command finds the IPv6 one by itself.
        said = made.master.offerd("master", "init", *(["--ip", "::1"] if len(machines) == 1 else []))
        assert (said.returncode, f"reach the master at {made.address}" in said.stderr) == (0, True), (
            said.stderr
        )
        word = made.offerd("token", "new", "--slave").strip()
        joined = machines[-1].offerd("slave", "join", made.address, word, timeout_s=120)
        assert joined.returncode == 0, joined.stderr
        yield made


def test_every_listing_shows_addresses_in_their_standard_form(cluster: Cluster) -> None:
    (slave,) = json.loads(cluster.offerd("slaves", "--json"))["slaves"]
    assert slave["files_address"] == f"[{cluster.slave_ip}]:5051"
    assert cluster.address in cluster.offerd("status")
    assert cluster.address in cluster.offerd("cluster", "list")
    assert f'master = "{cluster.address}"' in cluster.machines[-1].read("/etc/offerd/slave.toml")


def test_commands_run_and_their_output_can_be_read(cluster: Cluster) -> None:
    assert cluster.offerd("run", "--", "echo", "hello") == "hello\n"
    tasks = json.loads(cluster.offerd("tasks", "--all", "--json"))["tasks"]
    (echo,) = [task for task in tasks if task["name"] == "echo"]
    assert echo["files_address"] == f"[{cluster.slave_ip}]:5051"
    assert cluster.offerd("logs", echo["task_id"]) == "hello\n"
    assert sorted(cluster.offerd("map", "--", "echo", "{}", ":::", "a", "b").splitlines()) == ["a", "b"]


def test_calls_return_results_too_large_for_a_message(cluster: Cluster) -> None:
    done = cluster.master.run(sys.executable, "-c", CALLS)
    assert (done.returncode, done.stdout) == (0, "1048576 1 2\n"), done.stderr


def test_data_sets_are_written_and_read_by_jobs(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two\ntwo\n" * 1000)
    cluster.offerd("data", "put", "words", str(tmp_path / "text"))
    mapper, reducer = "tr -s '[:space:]' '\\n'", "uniq -c"
    words = ["--mapper", mapper, "--reducer", reducer, "--input", "data:words"]
    cluster.offerd("mapreduce", *words, "--output", str(tmp_path / "out"))
    lines = [
        line.split() for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()
    ]
    assert sorted(lines) == [["1000", "one"], ["2000", "two"]]


def test_mpi_runs_on_one_host_and_refuses_several(cluster: Cluster) -> None:
    if shutil.which("mpiexec.hydra") is None:
        pytest.skip("no mpiexec.hydra: apt-get install mpich")
    ran = cluster.master.offerd("mpi", "-n", "2", "--timeout", "30s", "--", "sh", "-c", "echo $PMI_RANK")
    if len(cluster.machines) == 1:
        assert (ran.returncode, sorted(ran.stdout.split())) == (0, ["0", "1", "[0]", "[1]"]), ran.stderr
    else:
        assert (ran.returncode, ran.stdout) == (1, "")
        assert (
            f"mpiexec.hydra cannot use IPv6, and a slave of this job can only be reached at {cluster.slave_ip}"
            in ran.stderr
        )
