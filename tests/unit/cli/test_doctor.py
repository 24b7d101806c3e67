"""What `offerd doctor` concludes from what it sees."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from offerd_cli import doctor
from offerd_cli.doctor import Cgroups

V1 = "35 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
OTHER = "22 1 0:21 / /proc rw,relatime - proc proc rw"


@pytest.mark.parametrize(
    ("lines", "mode"), [([OTHER, V2], "v2"), ([V1, OTHER], "v1"), ([V1, V2], "hybrid"), ([OTHER], "none")]
)
def test_the_mode_of_cgroups_is_read_from_the_mounts(lines: list[str], mode: str) -> None:
    assert doctor.cgroups("\n".join(lines)).mode == mode


def test_a_v2_mount_with_the_controllers_is_ok(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert doctor.check_cgroups(Cgroups("v2", tmp_path)).ok


def test_a_v2_mount_without_a_controller_says_which(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    finding = doctor.check_cgroups(Cgroups("v2", tmp_path))
    assert (finding.ok, finding.found) == (False, "mounted, without memory")
    assert finding.mend


@pytest.mark.parametrize("mode", ["v1", "hybrid", "none"])
def test_anything_but_v2_names_the_command_that_brings_it(mode: str) -> None:
    finding = doctor.check_cgroups(Cgroups(mode, Path("unified") if mode == "hybrid" else None))
    assert not finding.ok
    assert "unified_cgroup_hierarchy" in finding.mend


def test_a_cgroup_that_is_ours_is_delegated(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "cgroup.procs").touch()
    assert doctor.check_delegation(Cgroups("v2", tmp_path), "/ours").ok
    assert not doctor.check_delegation(Cgroups("v2", tmp_path), "/theirs").ok


@pytest.mark.parametrize(
    ("release", "ok"), [("4.19.0-25", False), ("5.2.1", False), ("5.3.0", True), ("6.1.0-13-amd64", True)]
)
def test_a_kernel_without_pidfds_is_too_old(release: str, ok: bool) -> None:
    assert doctor.check_kernel(release).ok is ok


def test_a_port_in_use_is_said_to_be() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = doctor.check_port(port, "master")
    assert not finding.ok
    assert "Address already in use" in finding.found
    assert doctor.check_port(port, "master").ok


def test_every_check_that_is_not_ok_says_what_mends_it() -> None:
    findings = doctor.examine()
    assert [finding.check for finding in findings if not finding.ok and not finding.mend] == []
    assert [finding.check for finding in findings if finding.ok and finding.mend] == []
