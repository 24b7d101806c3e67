"""Under systemd, with keys: the installed units beside an account of the host that has none.

For `make test-nightly`, as `test_systemd.py`.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.kernel_bed import wait_until
from helpers.recorder import Recorder
from helpers.systemd_host import (
    MASTER,
    PATIENCE_S,
    PREFIX,
    TASKS_UNIT,
    User,
    main_pid,
    provision_with_keys,
    run,
)
from offerd.messages import TaskState

STRANGER = Path(__file__).resolve().parents[1] / "helpers" / "stranger.py"
DAEMONS = ("offerd-master", "offerd-slave", "offerd-tasks")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A cluster as `deploy/README.md` has it installed, with a task of root's that has written something."""
    with pytest.MonkeyPatch.context() as patch:
        # The environment of root after a login.
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("OFFERD_CONFIG", "OFFERD_MASTER", "XDG_CONFIG_HOME"):
            patch.delenv(name, raising=False)
        provision_with_keys()
        made = Recorder(MASTER)
        made.patience_s = PATIENCE_S
        with made:
            made.run("roots", "echo said; echo kept >file; sleep 1000 & wait", limit_s=None)
            made.wait("roots", TaskState.RUNNING)
            work = Path("/var/lib/offerd/slave")
            wait_until(lambda: list(work.rglob("file")), "the task has written", PATIENCE_S)
            yield made


@pytest.fixture(scope="module")
def eve() -> User:
    """An account of the host without a key."""
    return User("eve")


def stranger(eve: User, *what: str) -> list[dict[str, object]]:
    """Which of these addresses and paths answer the account."""
    assert what
    words = [sys.executable, str(STRANGER), str(eve.uid), *what]
    return [found for line in run(*words).splitlines() if (found := json.loads(line))["answers"]]


def daemons() -> list[psutil.Process]:
    """Those of the units, and whatever they have started."""
    found = [psutil.Process(main_pid(unit)) for unit in DAEMONS]
    return [*found, *(child for each in found for child in each.children(recursive=True))]


def test_root_runs_a_command_with_nothing_set(keyed: Recorder) -> None:
    offerd = PREFIX / "venv/bin/offerd"
    # Of two cpus tasks without a time limit may hold one, and a part of that is root's task's.
    assert run(offerd, "run", "--timeout", "60s", "--", "echo", "hello") == "hello"
    assert "--insecure" not in "".join(" ".join(each.cmdline()) for each in daemons())


@pytest.mark.parametrize("where", [(), ("OFFERD_CONFIG=/etc/offerd",), (f"OFFERD_MASTER={MASTER}",)])
def test_an_account_without_a_key_runs_and_sees_nothing(
    keyed: Recorder, eve: User, where: tuple[str, ...]
) -> None:
    for command in ("run -- id", "status", "logs roots", "kill roots", "token new --operator", "keys list"):
        done = eve.run("env", *where, "offerd", *command.split())
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), (command, done.stderr)
        assert "no key for the cluster" in done.stderr
    assert keyed.states("roots") == [TaskState.RUNNING]


def test_an_account_without_a_key_reads_no_key_log_or_file_and_ends_nothing(
    keyed: Recorder, eve: User
) -> None:
    # Where the master is, with which public key, and who may do what, is for all to read: no secret is in it.
    open_to_all = {
        f"/etc/offerd/{name}" for name in ("clusters.toml", "master.toml", "master.pub", "authorized.toml")
    }
    open_to_all.add("/etc/offerd/slave.toml")
    files = {
        str(path)
        for place in ("/etc/offerd", "/var/lib/offerd")
        for path in Path(place).rglob("*")
        if path.is_file()
    }
    own_key = f"{socket.gethostname()}.key"
    assert {"master.key", own_key, "file", "tasks.journal", "slave.ckpt"} <= {
        Path(path).name for path in files
    }
    for path in open_to_all & files:
        assert "secret" not in Path(path).read_text().replace("(secret)", ""), path
    environments = [f"/proc/{each.pid}/environ" for each in daemons()]
    cgroups = [str(path) for path in TASKS_UNIT.rglob("cgroup.kill")]
    assert stranger(eve, *sorted(files - open_to_all), *environments) == []
    for path in cgroups:
        assert eve.run("sh", "-c", f"echo 1 >{path}").returncode != 0
    assert eve.run("journalctl", "-q", "--no-pager", "-u", "offerd-master", "-u", "offerd-slave").stdout == ""
    before = [main_pid(unit) for unit in DAEMONS]
    for unit in DAEMONS:
        assert eve.run("systemctl", "--no-ask-password", "stop", unit).returncode != 0
        assert eve.run("sh", "-c", f"kill -KILL {main_pid(unit)}").returncode != 0
    assert [main_pid(unit) for unit in DAEMONS] == before
    assert keyed.states("roots") == [TaskState.RUNNING]


def test_no_port_or_path_socket_of_the_units_answers_without_a_key(keyed: Recorder, eve: User) -> None:
    ports = {
        f"{where.laddr.ip}:{where.laddr.port}"
        for each in daemons()
        for where in each.net_connections("tcp")
        if where.status == psutil.CONN_LISTEN
    }
    assert MASTER in ports
    assert len(ports) >= 2, "the slave's files are behind another"
    sockets = {
        str(where.laddr) for each in daemons() for where in each.net_connections("unix") if where.laddr
    }
    ours = {path for path in sockets if path.startswith("/var/lib/offerd")}
    assert ours, "that of the executor is among them"
    assert not any(path.startswith("@") for path in sockets), "an abstract socket has no owner"
    assert stranger(eve, *sorted(ports), *sorted(ours)) == []
