"""MPI over several hosts: ranks that can only connect by TCP, and links that go down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from helpers import leftovers
from helpers.cli import pids_of, wait_until, words
from helpers.mpi import EXAMPLES, compile_mpi, need_mpich
from helpers.netns import Hosts
from offerd.operator import OperatorClient

pytestmark = [pytest.mark.root, pytest.mark.netns]

SMALL = ("--cpus", "0.5", "--mem", "32M", "--timeout", "50s", "--per-slave", "2", "-e", "UCX_TLS=tcp,self")


@contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon while entered."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as daemon:
        try:
            yield daemon
        finally:
            daemon.terminate()


@contextmanager
def cluster(hosts: Hosts, tmp_path: Path) -> Iterator[str]:
    """A master here, a slave on each host; the master's address."""
    with ExitStack() as stack:
        file = tmp_path / "address"
        master = words(
            "master", "--ip", hosts.address, "--insecure", "--port", "0", "--address-file", str(file)
        )
        patience = ("--ping-interval", "0.3s", "--missed-pings", "3")
        stack.enter_context(process(*master, *patience, log=tmp_path / "master.log"))
        wait_until(lambda: file.exists() and file.read_text().strip(), "the master to listen")
        address = file.read_text().strip().removeprefix("tcp://")
        for number, host in enumerate(hosts.addresses):
            slave = words("slave", "--master", address, "--ip", host, "--insecure", "--http-port", "0")
            slave += ["--work-dir", str(tmp_path / f"slave-{number}"), "--hostname", f"host-{number}"]
            slave += [
                "--resources",
                "cpus=2,mem=1G",
                "--isolation",
                "noop",
                "--ephemeral",
                "--default-user",
                "root",
            ]
            log = tmp_path / f"slave-{number}.log"
            stack.enter_context(process(*hosts.inside(number), *slave, log=log))
        with OperatorClient(address) as client:
            wait_until(lambda: len(list(client.slaves())) == len(hosts.names), "the slaves to register")
        yield address


def mpi(address: str, *arguments: str) -> subprocess.Popen[bytes]:
    return leftovers.start(
        words("mpi", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OFFERD_MASTER": address},
    )


def listening(program: str) -> set[str]:
    """The addresses on which processes of this program wait for connections; empty while one of them does not yet."""
    found: set[str] = set()
    for pid in pids_of(program):
        addresses = listeners(pid)
        if not addresses:
            return set()
        found |= addresses
    return found


def listeners(pid: int) -> set[str]:
    """The listening addresses of one process in its network namespace, from /proc/PID/net/tcp; 0A is LISTEN."""
    sockets = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {
        socket.inet_ntoa(bytes.fromhex(row[1].partition(":")[0])[::-1])
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    }


def test_ranks_on_several_hosts_work_together_and_a_dead_link_ends_a_job(
    tmp_path: Path,
) -> None:
    need_mpich()
    heat = compile_mpi(EXAMPLES / "heat.c", tmp_path)
    alone = subprocess.run([heat, "24", "60"], capture_output=True, check=True, timeout=30).stdout
    with Hosts(2) as hosts, cluster(hosts, tmp_path) as address:
        together = mpi(address, "-n", "4", *SMALL, "--no-label", "--", heat, "24", "60")
        assert together.stdout is not None
        assert together.stdout.readline() == alone
        # MPICH 4.0's finalize over TCP is known to hang now and then, under plain mpiexec, too: its end proves nothing here.
        together.send_signal(signal.SIGINT)
        together.communicate(timeout=30)

        long = mpi(address, "-n", "4", *SMALL, "--", heat, "24", str(10**9))
        wait_until(
            lambda: listening(heat) == set(hosts.addresses), "each rank to listen at its slave's address"
        )
        long.send_signal(signal.SIGINT)
        long.communicate(timeout=30)

        waits = mpi(address, "-n", "4", *SMALL, "--", "sh", "-c", "echo up; sleep 600")
        assert waits.stdout is not None
        assert sorted(waits.stdout.readline()[:3] for _ in range(4)) == [b"[0]", b"[1]", b"[2]", b"[3]"]
        hosts.unplug(1)
        _, complaints = waits.communicate(timeout=30)
        assert waits.returncode == 1
        assert b"host-1" in complaints
        assert b"lost" in complaints.lower()
