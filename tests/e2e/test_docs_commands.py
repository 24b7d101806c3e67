"""Every command that a document shows is run as it is written, on hosts like those of the document.

Only placeholders in a command (TOKEN, KEY, a job's id) are replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.cli import wait_until
from helpers.documents import ROOT, commands, documents
from helpers.ensemble import needs_zookeeper
from helpers.machines import Machine
from helpers.mpi import need_mpich
from helpers.netns import Hosts
from helpers.shells import LIMIT_S, Shell
from offerd_cli import zookeeper
from offerd_cli.local_cluster import LocalCluster

AS_ROOT = os.geteuid() == 0
NETWORK = "10.0.0"
"""Addresses of the documents' hosts."""
FOLLOWED = {
    "README.md", "deploy/README.md", "examples/README.md", "docs/allocation.md", "docs/debugging.md",
    "docs/docker.md", "docs/fault-tolerance.md", "docs/mapreduce.md", "docs/mpi.md", "docs/security.md", "docs/simulator.md",
    "docs/testing.md", "docs/web.md",
}  # fmt: skip
"""Documents that are tested here, or in `tests/e2e/docker` if they need an engine."""


def test_every_document_with_commands_is_followed() -> None:
    assert {document for document in documents() if commands(document)} == FOLLOWED


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Hosts at 10.0.0.1, 10.0.0.2 and 10.0.0.3."""
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(3, NETWORK))
        names = ("master", "host7", "laptop")
        yield [
            stack.enter_context(Machine(hosts, number, name, tmp_path / name))
            for number, name in enumerate(names)
        ]


def checkout(place: Path) -> Path:
    """A clone of the repository, with some files of the user beside it."""
    place.mkdir()
    for name in (".venv", "examples", "docs", "Makefile", "README.md"):
        (place / name).symlink_to(ROOT / name)
    for name in ("one.log", "two.log"):
        (place / name).write_text("a line\n")
    (place / "TEXTS").mkdir()
    (place / "TEXTS/text").write_text("to be or\n\n  not to be\n")
    return place


# -- on one host ----------------------------------------------------------------------------------------------------------


def test_the_first_two_minutes_on_one_host(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """README, and the documents that go on with its cluster."""
    need_mpich()
    machine = request.getfixturevalue("machines")[0] if AS_ROOT else None
    with Shell(checkout(tmp_path / "offerd"), machine) as shell:
        begun: list[subprocess.Popen[str]] = []
        big = "only root may write below /var/log"
        if machine is not None:
            machine.run("sh", "-c", "seq 100000 >/var/log/big")
            big = ""
        shell.follow(
            "README.md",
            {
                "make demo": "tests/e2e/test_cli_demo.py",
                "make test": ".ci/run",
                ".venv/bin/offerd local": lambda line: begun.append(shell.begin(line, shell.has_slaves(3))),
                "export ": shell.remember,
                "offerd run --timeout": lambda line: shell.type(line, status=124),
                **({"offerd data put logs": big} if big else {}),
            },
        )
        assert sorted(path.name for path in shell.directory.glob("*.gz")) == ["one.log.gz", "two.log.gz"]
        counts = "".join(path.read_text() for path in sorted((shell.directory / "OUT").glob("part-*")))
        assert sorted(line.split() for line in counts.splitlines()) == [
            ["1", "not"], ["1", "or"], ["2", "be"], ["2", "to"],
        ]  # fmt: skip
        shell.type("rm -r OUT")
        if not big:
            shell.type("offerd data rm logs")
            shell.follow("docs/mapreduce.md", {})
        shell.follow("examples/README.md", {})
        shell.interrupt(begun[0])
        assert begun[0].returncode in (0, 130)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(3, cpus=request.param, mem="1G", isolation="noop") as running:
        yield running


@pytest.mark.parametrize("cluster", ["4"], indirect=True)
def test_mpi_programs_and_their_queue(cluster: LocalCluster, tmp_path: Path) -> None:
    need_mpich()
    with Shell(checkout(tmp_path / "offerd"), None, {"OFFERD_MASTER": cluster.address}) as shell:
        jobs: list[str] = []

        def put(line: str) -> None:
            jobs.append(shell.type(line).strip())
            wait_until((shell.directory / f"jobs/{jobs[0]}.end").exists, "the job to end")

        shell.follow(
            "docs/mpi.md",
            {
                "offerd mpi --queue jobs -n": put,
                "offerd mpi --queue jobs": lambda line: shell.begin(line, (shell.directory / "jobs").is_dir),
                "cat jobs/": lambda line: shell.type(re.sub(r"hello-\w+", jobs[0], line)),
            },
        )


@pytest.mark.parametrize("cluster", ["2"], indirect=True)
def test_a_waiting_framework_is_given_the_reason(cluster: LocalCluster, tmp_path: Path) -> None:
    need_mpich()
    with Shell(checkout(tmp_path / "offerd"), None, {"OFFERD_MASTER": cluster.address}) as shell:
        shell.type("mpicc -O2 examples/mpi/hello.c -o hello")

        def waits(line: str) -> None:
            process = shell.begin(line)
            assert process.stdout is not None
            assert "waiting: room for 3 of 4: tasks without a time limit" in process.stdout.readline()
            shell.interrupt(process)

        def explain(line: str) -> None:
            nightly = shell.begin("offerd mpi -n 4 --name nightly -- ./hello")
            assert nightly.stdout is not None
            assert "waiting: " in nightly.stdout.readline()
            assert "nightly, role *" in shell.type(line)

        shell.follow("docs/allocation.md", {"offerd mpi": waits, "offerd explain": explain})


# -- on several -----------------------------------------------------------------------------------------------------------


def table(**keys: str) -> str:
    """The file of the authorized that docs/security.md shows, with these keys in it, and without the owners of others."""
    (shown,) = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs/security.md").read_text(), re.MULTILINE | re.DOTALL
    )
    tables = {each.partition("]")[0]: f"[{each}" for each in shown.split("[", 1)[1].split("\n\n[")}
    return (
        "\n\n".join(re.sub('key = ".*"', f'key = "{key}"', tables[name]) for name, key in keys.items()) + "\n"
    )


def made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def shells(machines: list[Machine], tmp_path: Path) -> Iterator[list[Shell]]:
    """A shell on each host. `alice` has an account on the first two."""
    for machine in machines[:2]:
        machine.run("useradd", "--no-create-home", "alice")
    with ExitStack() as stack:
        yield [stack.enter_context(Shell(made(tmp_path / f"on-{each.name}"), each)) for each in machines]


BY_HAND = (
    "offerd keys new", "offerd master --ip", "offerd slave --master", "offerd run --master 10.0.0.1:5060",
    "offerd local",
)  # fmt: skip


@pytest.mark.root
def test_hosts_and_people_join_and_the_store_names_clusters(
    shells: list[Shell], machines: list[Machine]
) -> None:
    operator, host, _ = shells
    machines[2].run("useradd", "--create-home", "--home-dir", "/var/lib/alice", "alice")
    alice = Shell(Path("/var/lib/alice"), machines[2], user="alice")
    words: list[str] = []
    store: list[str] = []
    operator.follow(
        "docs/security.md",
        {
            "offerd cluster add": store.append,
            "offerd cluster use": store.append,
            "offerd run --master prod": store.append,
            "offerd token new": lambda line: words.append(operator.type(line).strip()),
            "offerd slave join": lambda line: host.type(line.replace("TOKEN", words[-1])),
            "offerd cluster join": lambda line: alice.type(line.replace("TOKEN", words[-1])),
            "offerd run --role science": lambda line: alice.type(line),
            **dict.fromkeys(BY_HAND, "test_keys_are_made_and_used_by_hand"),
        },
    )
    operator.type("offerd keys new lab && offerd keys new alice")
    key = operator.type("cat /etc/offerd/master.pub").split('"')[1]
    with Shell(
        operator.directory, machines[2], {"OFFERD_CONFIG": str(operator.directory / "store")}
    ) as carol:
        add, add_lab, use, run = store
        public = carol.type(add.replace(" KEY", f" {shlex.quote(key)}")).strip()
        carols = f'[carol]\nkey = "{public}"\nroles = ["*"]\nusers = ["alice"]\n'
        operator.type(
            f"printf '%s' '{carols}' >>/etc/offerd/authorized.toml && kill -HUP $(cat /var/lib/offerd/master.pid)"
        )
        carol.type(add_lab)
        carol.type(use)
        wait_until(lambda: carol.ends_with(run) == 0, "carol's key to be known")


@pytest.mark.root
def test_keys_are_made_and_used_by_hand(shells: list[Shell]) -> None:
    operator, host, alice = shells
    operator.type("offerd keys new alice")
    begun: list[subprocess.Popen[str]] = []

    def begin(shell: Shell, line: str) -> None:
        begun.append(shell.begin(line))

    def begin_master(line: str) -> None:
        keys = {
            name: operator.type(f"cat {name}.pub").split('"')[1]
            for name in ("host7", "alice")
            if "--key" in line
        }
        operator.type(f"cat >/etc/offerd/cluster.toml <<'END'\n{table(**keys) if keys else ''}END")
        while begun:
            operator.interrupt(begun.pop())
        begin(operator, line)

    def begin_slave(line: str) -> None:
        operator.type("cp /etc/offerd/master.pub .")
        for shell in (host, alice):
            shell.type(f"cp {operator.directory}/*.key {operator.directory}/*.pub .")
        begin(host, line)
        if "--key" not in line:
            wait_until(
                lambda: "host7" in alice.type("offerd slaves --master 10.0.0.1:5060"), "the slave to register"
            )

    operator.follow(
        "docs/security.md",
        {
            **dict.fromkeys(
                (
                    "offerd cluster",
                    "offerd run --master prod",
                    "offerd master init",
                    "offerd token",
                    "offerd slave join",
                    "offerd run --role science",
                ),
                "test_hosts_and_people_join_and_the_store_names_clusters",
            ),
            "offerd master --ip": begin_master,
            "offerd slave --master": begin_slave,
            "offerd run --master 10.0.0.1:5060": alice.type,
            "offerd local": lambda line: alice.begin(line, lambda: alice.ends_with("offerd status") == 0),
        },
    )


@pytest.mark.root
@needs_zookeeper
def test_masters_with_zookeeper_and_hosts_that_go_for_a_while(
    shells: list[Shell], machines: list[Machine], tmp_path: Path
) -> None:
    operator, host, zoo = shells
    words = zookeeper.prepare_server(tmp_path / "zoo", 0, [zookeeper.Ports(2181, 0, 0)])
    config = tmp_path / "zoo/zoo.cfg"
    config.write_text(config.read_text().replace("clientPortAddress=127.0.0.1\n", ""))
    zoo.begin(" ".join(words))
    for shell in shells:
        shell.type("echo '10.0.0.3 zoo1 zoo2 zoo3' >>/etc/hosts")
    for name in ("master", "host7", "ops"):
        operator.type(f"offerd keys new {name}")
    keys = {name: operator.type(f"cat {name}.pub").split('"')[1] for name in ("host7", "ops")}
    (operator.directory / "cluster.toml").write_text(table(**keys))
    host.type(f"cp {operator.directory}/*.key {operator.directory}/*.pub .")

    def add(line: str) -> None:
        operator.type(f"{line} --key ops.key")
        wait_until(operator.has_slaves(1), "the slave to register", LIMIT_S)

    operator.follow(
        "docs/fault-tolerance.md",
        {
            "offerd master": operator.begin,
            "offerd slave": host.begin,
            "offerd cluster add": add,
            "make chaos": "tests/e2e/test_chaos.py",
        },
    )


@pytest.mark.root
def test_hosts_are_installed(machines: list[Machine]) -> None:
    """Packages are installed already, and there is no systemd: tests/kernel tests the installed units."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    operator, host = (Shell(ROOT, machine, {"PATH": path}) for machine in machines[:2])
    for shell in (operator, host):
        shell.type(
            "mkdir -p /opt/offerd/venv/bin && cd /opt/offerd/venv/bin && printf '#!/bin/sh\\n' >pip && chmod +x pip && "
            f"ln -s {ROOT}/.venv/bin/offerd offerd"
        )
    words: list[str] = []
    here = "tests/kernel/test_systemd.py"
    operator.follow(
        "deploy/README.md",
        {
            "offerd token new": lambda line: words.append(operator.type(line).strip()),
            "deploy/provision/slave.sh --no-start": lambda line: host.type(line.replace("TOKEN", words[-1])),
            "deploy/provision/slave.sh": host.type,
            "systemctl": here,
            "rm -rf": here,
        },
    )
    assert "--ip 10.0.0.1 --key /etc/offerd/master.key" in operator.type("cat /etc/default/offerd-master")
    assert "--master-key /etc/offerd/master.pub" in host.type("cat /etc/default/offerd-slave")


# -- for who works on it --------------------------------------------------------------------------------------------------


def test_commands_for_contributors_name_targets_and_tests_that_exist() -> None:
    """In docs/testing.md, debugging.md and web.md: what commands would run is listed, not run. It all runs elsewhere."""
    shell = Shell(ROOT)
    shell.follow(
        "docs/testing.md",
        {
            "make": lambda line: shell.type(f"{line} --dry-run"),
            ".venv/bin/pytest": lambda line: shell.type(f"{line} --collect-only -q"),
            "OFFERD_FUZZ_MESSAGES": lambda line: shell.type(f"{line} --collect-only -q"),
            "OFFERD_ELIGIBILITY_EXAMPLES": lambda line: shell.type(f"{line} --collect-only -q"),
            "OFFERD_SYSTEMD": lambda line: shell.type(f"{line} --collect-only -q"),
            "PYTHONPATH=tests .venv/bin/python -m fuzz": "tests/unit/test_fuzz.py",
            ".venv/bin/python tests/helpers/guest.py": "tests/kernel",
            "OFFERD_GUEST_KERNEL": "a kernel that somebody has",
        },
    )
    shell.follow(
        "docs/debugging.md",
        {"offerd events": "tests/e2e/test_events.py", "offerd debug": "tests/e2e/test_recordings.py"},
    )
    shell.follow(
        "docs/web.md",
        {
            "offerd web": "tests/e2e/test_gateway.py",
            "offerd tasks": "tests/e2e/test_history.py",
            "offerd report": "tests/e2e/test_history.py",
        },
    )


if os.environ.get("OFFERD_ALL_COMMANDS"):

    def test_the_simulators_experiments(tmp_path: Path) -> None:
        """Minutes: for `make test-nightly`."""
        with Shell(tmp_path) as shell:
            shell.follow("docs/simulator.md", {})
            assert list((tmp_path / "plots").glob("*.svg"))
