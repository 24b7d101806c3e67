"""MPICH's process manager as a child: what it asks for, whom it waits for, and that it goes when told to."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import offerd
from helpers.cli import wait_until
from helpers.mpi import need_mpich
from offerd_frameworks.mpi.hydra import Hydra, find_hydra, own_address

DEADLINE_S = 20.0


@contextmanager
def started(*argv: str, hosts: tuple[tuple[str, int], ...] = (("a", 1), ("b", 1))) -> Iterator[Hydra]:
    """One that has said what to run on each host."""
    need_mpich()
    hydra = Hydra(argv, hosts, "127.0.0.1", directory="", environment=dict(os.environ), stdin=None)
    try:
        wait_until(lambda: hydra.read(is_stderr=False) is None or hydra.is_ready, "the proxies' commands")
        yield hydra
    finally:
        hydra.kill()
        assert select.select([hydra.pidfd], [], [], DEADLINE_S)[0]
        hydra.wait()


def timers(port: int) -> list[str]:
    """Which timer runs on each connection to this port; 02 is that of keep-alive probes (Linux's proc_net_tcp.rst)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[5].partition(":")[0] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]


def test_it_says_what_to_run_on_each_host_and_waits_for_all_of_them() -> None:
    with started("sleep", "600") as hydra:
        assert len(hydra.commands) == 2
        assert [command[-2:] for command in hydra.commands] == [["--proxy-id", "0"], ["--proxy-id", "1"]]
        assert hydra.arrived() == 0
        with subprocess.Popen(hydra.commands[0], start_new_session=True) as proxy:
            try:
                wait_until(lambda: hydra.arrived() == 1, "the first proxy")
                port = hydra.commands[0][hydra.commands[0].index("--control-port") + 1].rpartition(":")[2]
                # Until the proxy's host has acknowledged what it was told, the timer for sending again runs there.
                wait_until(lambda: timers(int(port)) == ["02"], "the timer of keep-alive probes")
                hydra.kill()
                proxy.wait(DEADLINE_S)
            finally:
                proxy.kill()


@pytest.mark.parametrize(("error", "arrived"), [(errno.EBADF, 0), (errno.EPERM, None), (errno.ENOSYS, None)])
def test_a_socket_that_was_just_closed_is_no_proxy_and_one_that_we_may_not_look_at_is_not_known(
    error: int, arrived: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        def syscall(self, *_: int) -> int:
            ctypes.set_errno(error)
            return -1

    with started("sleep", "600") as hydra:
        monkeypatch.setattr("offerd_frameworks.mpi.hydra._libc", Kernel())
        assert hydra.arrived() == arrived


def test_hosts_of_one_name_are_kept_apart() -> None:
    with started("true", hosts=(("same", 1), ("same", 1), ("same", 1))) as hydra:
        assert len(hydra.commands) == 3


def test_a_death_is_told_with_its_rank_and_not_shown_as_output() -> None:
    script = 'echo fine; printf "no end" >&2; [ $PMI_RANK = 0 ] || exit 7'
    with started("sh", "-c", script) as hydra:
        proxies = [subprocess.Popen(command, start_new_session=True) for command in hydra.commands]
        written = []
        for is_stderr in (False, True):
            while (pieces := hydra.read(is_stderr=is_stderr)) is not None:
                written += [(piece.rank, piece.data) for piece in pieces]
        written += [(piece.rank, piece.data) for _, piece in hydra.rest()]
        assert sorted(written) == [(0, b"fine\n"), (0, b"no end"), (1, b"fine\n"), (1, b"no end")]
        assert hydra.deaths == [(1, 7)]
        for proxy in proxies:
            proxy.wait(DEADLINE_S)


def test_what_is_not_installed_is_said_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(offerd.OfferdError, match="apt-get install mpich"):
        find_hydra()


def test_a_directory_that_is_gone_is_an_error_of_ours() -> None:
    need_mpich()
    with pytest.raises(offerd.OfferdError, match="no-such-directory"):
        Hydra(["true"], [("a", 1)], "127.0.0.1", directory="/no-such-directory", environment={}, stdin=None)


def test_our_address_is_the_one_that_peers_on_other_hosts_see() -> None:
    assert own_address(["127.0.0.1:5051"]) == "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            route = probe.getsockname()[0]
    except OSError:
        pytest.skip("this host has no route to others")
    assert own_address(["127.0.0.1:5051", "192.0.2.1:5051"]) == route
