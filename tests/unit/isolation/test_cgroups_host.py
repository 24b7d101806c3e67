"""Which cgroup is divided, or one sentence that says why none is, on hosts made of directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd_isolation.cgroups import host
from offerd_isolation.cgroups.host import Root, Unusable

ALL = "cpuset cpu io memory pids\n"
CONTROLLERS = frozenset(ALL.split())
V1 = "35 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
OTHER = "22 1 0:21 / /proc rw,relatime - proc proc rw"


class Host:
    """A host's /proc and its cgroup mount."""

    def __init__(self, path: Path) -> None:
        self.mount, self.proc = path / "cgroup", path / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.v2 = f"30 25 0:26 / {self.mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
        self.mounts(OTHER, self.v2)
        self.own("/")
        self.cgroup("")

    def mounts(self, *lines: str) -> None:
        (self.proc / "self/mountinfo").write_text("\n".join(lines) + "\n")

    def own(self, path: str) -> None:
        (self.proc / "self/cgroup").write_text(f"12:cpu:/somewhere\n0::{path}\n")

    def cgroup(self, path: str, controllers: str = ALL) -> Path:
        made = self.mount / path
        made.mkdir(parents=True, exist_ok=True)
        (made / "cgroup.controllers").write_text(controllers)
        own = ["cgroup.type", "cpu.weight", "memory.max", "pids.max"] if path else []
        for name in ("cgroup.procs", "cgroup.subtree_control", *own):
            (made / name).touch()
        return made

    def root(self, **environment: str) -> Root:
        return host.find_root(self.proc, environment)


@pytest.fixture
def this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("lines", "mode"),
    [((OTHER, "V2"), "v2"), ((V1, OTHER), "v1"), ((V1, "V2"), "hybrid"), ((OTHER,), "none")],
)
def test_the_mode_is_read_from_the_mounts(this: Host, lines: tuple[str, ...], mode: str) -> None:
    assert host.mounts("\n".join(line.replace("V2", this.v2) for line in lines)).mode == mode


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((V1, "V2"), "this host is hybrid: its controllers are mounted as cgroup v1"),
        ((V1,), "limits need cgroup v2"),
        ((OTHER,), "mount -t cgroup2 none"),
    ],
)
def test_a_host_without_cgroup_v2_is_refused_in_one_sentence(
    this: Host, lines: tuple[str, ...], words: str
) -> None:
    this.mounts(*(line.replace("V2", this.v2) for line in lines))
    with pytest.raises(Unusable, match=words) as raised:
        this.root()
    assert "\n" not in str(raised.value)


def test_root_divides_the_hosts_root_cgroup_and_leaves_login_sessions_alone(this: Host) -> None:
    this.cgroup("user.slice/session-1.scope")
    this.own("/user.slice/session-1.scope")
    assert this.root() == Root(str(this.mount), CONTROLLERS)


def test_in_a_cgroup_namespace_the_processes_in_its_root_must_move(this: Host) -> None:
    for name in ("cgroup.type", "cpu.weight", "memory.max", "pids.max"):
        (this.mount / name).touch()
    assert this.root() == Root(str(this.mount), CONTROLLERS, has_daemon=True)


def test_a_cgroup_that_systemd_has_delegated_is_used(this: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = this.cgroup("system.slice/some.service")
    this.own("/system.slice/some.service")
    monkeypatch.setattr(host, "is_delegated", lambda path: path == unit)
    assert this.root() == Root(str(unit), CONTROLLERS, has_daemon=True)


def test_a_user_divides_the_cgroup_it_is_in(this: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    scope = this.cgroup("user.slice/run-1.scope", "cpu memory pids")
    this.own("/user.slice/run-1.scope")
    assert this.root().path == str(scope)
    assert this.root().has_daemon


def test_a_cgroup_without_write_access_is_refused_with_the_command_that_delegates_one(
    this: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Unusable, match="systemd-run --user --scope -p Delegate=yes"):
        this.root()


def test_a_slave_in_the_daemon_leaf_divides_the_cgroup_above(this: Host) -> None:
    scope = this.cgroup("run-1.scope")
    this.cgroup("run-1.scope/offerd.daemon")
    this.own("/run-1.scope/offerd.daemon")
    assert this.root() == Root(str(scope), CONTROLLERS)


def test_a_cgroup_named_in_the_environment_comes_first(this: Host) -> None:
    kept = this.cgroup("system.slice/offerd-tasks.service")
    assert this.root(OFFERD_CGROUP=str(kept)) == Root(str(kept), CONTROLLERS)
    with pytest.raises(Unusable, match="which is not a cgroup v2"):
        this.root(OFFERD_CGROUP=str(this.mount / "nowhere"))


def test_controllers_that_were_not_delegated_are_named(this: Host) -> None:
    this.cgroup("", "memory pids")
    with pytest.raises(Unusable, match="has no controller cpu; have systemd delegate"):
        this.root()
