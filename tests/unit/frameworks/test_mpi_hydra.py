"""MPICH's process manager as a child: what it asks for, what it waits for, and that it ends when it is asked to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import offerd
from helpers.cli import wait_until
from helpers.ipv6 import NO_IPV6, has_ipv6
from helpers.mpi import need_mpich
from offerd_frameworks.mpi.hydra import Hydra, find_hydra, own_address, passed_on
from offerd_frameworks.mpi.output import End, Piece

DEADLINE_S = 20.0


@contextmanager
def started(
    *argv: str,
    hosts: tuple[tuple[str, int], ...] = (("a", 1), ("b", 1)),
    address: str = "127.0.0.1",
    **more: str,
) -> Iterator[Hydra]:
    """A process manager that has printed what to run on each host."""
    need_mpich()
    environment = {**passed_on(os.environ), **more}
    hydra = Hydra(argv, hosts, address, directory="", environment=environment, stdin=None)
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
                # Until the proxy's host has acknowledged what it was sent, the timer for sending again runs there.
                wait_until(lambda: timers(int(port)) == ["02"], "the timer of keep-alive probes")
                hydra.kill()
                proxy.wait(DEADLINE_S)
            finally:
                proxy.kill()


@pytest.mark.parametrize(("error", "arrived"), [(errno.EBADF, 0), (errno.EPERM, None), (errno.ENOSYS, None)])
def test_a_closed_socket_is_not_a_proxy_and_an_inaccessible_one_is_unknown(
    error: int, arrived: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        def syscall(self, *_: int) -> int:
            ctypes.set_errno(error)
            return -1

    with started("sleep", "600") as hydra:
        monkeypatch.setattr("offerd_frameworks.mpi.hydra._libc", Kernel())
        assert hydra.arrived() == arrived


def listeners(pid: int) -> list[tuple[str, int]]:
    """Where a process waits for connections."""
    links = psutil.Process(pid).net_connections("inet")
    return [(each.laddr[0], each.laddr[1]) for each in links if each.status == "LISTEN"]


def control(hydra: Hydra) -> tuple[str, int]:
    """The address that the proxies get."""
    (where,) = {command[command.index("--control-port") + 1] for command in hydra.commands}
    address, _, port = where.rpartition(":")
    return address, int(port)


def test_it_listens_on_the_jobs_own_address_alone() -> None:
    with started("sleep", "600", address="127.0.0.2") as hydra:
        assert hydra.is_bound
        assert listeners(hydra._process.pid) == [control(hydra)]
        assert control(hydra)[0] == "127.0.0.2"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", control(hydra)[1]))


def test_it_listens_on_a_port_of_the_range_that_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        with started("sleep", "600", MPIEXEC_PORT_RANGE=f"{first}:{first + 20}") as hydra:
            assert listeners(hydra._process.pid) == [control(hydra)]
            assert first < control(hydra)[1] <= first + 20


def test_a_range_of_ports_that_are_all_taken_is_an_error() -> None:
    need_mpich()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(offerd.OfferdError, match=r"cannot listen on 127\.0\.0\.1"),
            started("true", MPIEXEC_PORT_RANGE=f"{port}:{port}"),
        ):
            pass


def test_a_stranger_that_connects_before_it_is_bound_ends_the_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind, strangers = Hydra._bind, []

    def is_late(self: Hydra) -> bool:
        port = control(self)[1]
        strangers.append(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: self.arrived() == 1, "hydra to take the connection")
        return bind(self)

    monkeypatch.setattr(Hydra, "_bind", is_late)
    with pytest.raises(offerd.OfferdError, match="somebody else has connected"), started("true"):
        pass
    strangers[0].close()


def test_where_the_kernel_refuses_access_hydra_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        def syscall(self, *_: int) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr("offerd_frameworks.mpi.hydra._libc", Kernel())
    with started("true") as hydra:
        assert not hydra.is_bound
        proxies = [subprocess.Popen(command, start_new_session=True) for command in hydra.commands]
        assert [proxy.wait(DEADLINE_S) for proxy in proxies] == [0, 0]


def test_a_stranger_that_connects_is_not_sent_what_the_job_did_not_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first to connect as proxy 0 is sent everything, so that must hold no secret."""
    monkeypatch.setenv("MY_SECRET", "s3cr3t")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with (
        started("sleep", "600", NAMED="by the job") as hydra,
        socket.create_connection(control(hydra)) as stranger,
    ):
        stranger.settimeout(DEADLINE_S)
        stranger.sendall(struct.pack("<i", 0))
        reported = b""
        while b"NAMED" not in reported:
            reported += stranger.recv(65536)
        stranger.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while more := stranger.recv(65536):
                reported += more
        assert b"by the job" in reported
        assert b"OMP_NUM_THREADS" in reported
        assert b"SECRET" not in reported
        assert b"s3cr3t" not in reported
        assert b"s3cr3t" not in Path(f"/proc/{hydra._process.pid}/environ").read_bytes()


def test_hosts_of_one_name_are_kept_apart() -> None:
    with started("true", hosts=(("same", 1), ("same", 1), ("same", 1))) as hydra:
        assert len(hydra.commands) == 3


def read_all(hydra: Hydra) -> list[tuple[int | None, bytes]]:
    """Lines of all ranks, sorted."""
    written = []
    for is_stderr in (False, True):
        while (pieces := hydra.read(is_stderr=is_stderr)) is not None:
            written += [(piece.rank, piece.data) for piece in pieces]
    for is_stderr in (False, True):
        written += [(piece.rank, piece.data) for piece in hydra.rest(is_stderr=is_stderr)]
    return sorted(written)


def test_a_death_is_reported_with_its_rank_and_not_shown_as_output() -> None:
    """Its shell stays until it is asked to end, and reports that it was."""
    script = 'echo fine; printf "no end" >&2; [ $PMI_RANK = 0 ] || exit 7'
    with started("sh", "-c", script) as hydra:
        proxies = [subprocess.Popen(command, start_new_session=True) for command in hydra.commands]
        written = []
        while not hydra.deaths or hydra.silent.count(1) == 0:
            (ready, _, _) = select.select([hydra.stdout, hydra.stderr], [], [], DEADLINE_S)
            assert ready
            for stream in ready:
                pieces = hydra.read(is_stderr=stream is hydra.stderr)
                assert pieces is not None
                written += [(piece.rank, piece.data) for piece in pieces]
        assert hydra.deaths == [End(1, 7, was_asked=False)]
        assert proxies[1].poll() is None
        (shell,) = psutil.Process(proxies[1].pid).children()
        shell.terminate()
        written += read_all(hydra)
        assert sorted(written) == [(0, b"fine\n"), (0, b"no end"), (1, b"fine\n"), (1, b"no end")]
        assert hydra.unheard == ()
        for proxy in proxies:
            proxy.wait(DEADLINE_S)


def test_a_rank_ended_from_outside_reports_all_its_output_and_that_it_was_asked_to_end() -> None:
    with started("sh", "-c", "printf 'no end'; echo up >&2; exec sleep 600", hosts=(("a", 1),)) as hydra:
        proxy = subprocess.Popen(hydra.commands[0], start_new_session=True)
        written: list[Piece] = []
        while not written:  # the pattern may come alone
            pieces = hydra.read(is_stderr=True)
            assert pieces is not None
            written += pieces
        assert written == [Piece(0, b"up\n")]
        (shell,) = psutil.Process(proxy.pid).children()
        for each in (shell, *shell.children()):
            each.terminate()
        assert read_all(hydra) == [(0, b"no end")]
        assert hydra.deaths == [End(0, 143, was_asked=True)]
        proxy.wait(DEADLINE_S)


def test_a_rank_whose_end_has_not_come_is_unheard() -> None:
    with started("sh", "-c", "echo up; kill -9 0", hosts=(("a", 1),)) as hydra:
        proxy = subprocess.Popen(hydra.commands[0], start_new_session=True)
        assert read_all(hydra) == [(0, b"up\n")]
        assert (hydra.deaths, hydra.unheard, hydra.has_output) == ([], (0,), True)
        proxy.wait(DEADLINE_S)


def test_a_missing_program_is_reported_with_the_command_that_installs_it(
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
    assert own_address(["127.0.0.1"]) == "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            route = probe.getsockname()[0]
    except OSError:
        pytest.skip("this host has no route to others")
    assert own_address(["127.0.0.1", "192.0.2.1"]) == route


def test_hosts_known_by_ipv6_addresses_are_this_one_or_refused_in_one_line() -> None:
    if not has_ipv6():
        pytest.skip(NO_IPV6)
    assert own_address(["::1", "127.0.0.1", "::1"]) == "127.0.0.1"
    with pytest.raises(
        offerd.OfferdError, match=r"cannot use IPv6, and a slave .* reached at 2001:db8::2"
    ) as caught:
        own_address(["127.0.0.1", "::1", "2001:db8::2"])
    assert "\n" not in str(caught.value)
