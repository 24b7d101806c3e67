"""What `offerd doctor` concludes from what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.ipv6 import NO_IPV6, has_ipv6
from offerd.wire.routes import bound
from offerd_cli import doctor
from offerd_isolation.cgroups.host import Mounts, Root, Unusable


def test_a_v2_mount_with_the_controllers_is_ok(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert doctor.check_cgroups(Mounts("v2", tmp_path)).ok


def test_a_v2_mount_without_a_controller_says_which(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    finding = doctor.check_cgroups(Mounts("v2", tmp_path))
    assert (finding.ok, finding.found) == (False, "mounted, without memory")
    assert finding.mend


@pytest.mark.parametrize("mode", ["v1", "hybrid", "none"])
def test_anything_except_v2_names_the_command_that_enables_it(mode: str) -> None:
    finding = doctor.check_cgroups(Mounts(mode, Path("unified") if mode == "hybrid" else None))
    assert not finding.ok
    assert "unified_cgroup_hierarchy" in finding.mend


def test_a_cgroup_of_ours_is_shown_as_delegated() -> None:
    finding = doctor.check_delegation(lambda: Root("/sys/fs/cgroup", frozenset()))
    assert (finding.ok, finding.found) == (True, "/sys/fs/cgroup is delegated to this user")


def test_a_missing_delegation_is_explained_with_the_command_that_helps() -> None:
    def look() -> Root:
        raise Unusable("this host is hybrid: limits need v2; add something; reboot now")

    finding = doctor.check_delegation(look)
    assert (finding.ok, finding.found) == (False, "this host is hybrid: limits need v2; add something")
    assert finding.mend == "reboot now"


@pytest.mark.parametrize(
    ("release", "ok"), [("4.19.0-25", False), ("5.2.1", False), ("5.3.0", True), ("6.1.0-13-amd64", True)]
)
def test_a_kernel_without_pidfds_is_too_old(release: str, ok: bool) -> None:
    assert doctor.check_kernel(release).ok is ok


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0"])
def test_a_port_in_use_is_reported(ip: str) -> None:
    if ip == "::1" and not has_ipv6():
        pytest.skip(NO_IPV6)
    with bound(ip, 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        finding = doctor.check_port(port, "master")
    assert not finding.ok
    assert "Address already in use" in finding.found
    assert doctor.check_port(port, "master").ok


def test_every_failed_check_names_the_command_that_helps() -> None:
    findings = doctor.examine()
    assert [finding.check for finding in findings if not finding.ok and not finding.mend] == []
    assert [finding.check for finding in findings if finding.ok and finding.mend] == []


@pytest.mark.parametrize(
    ("engine", "runc", "warns"),
    [
        ("20.10.24+dfsg1", "1.1.5+ds1", ["engine 20.10.24+dfsg1", "runc 1.1.5+ds1", "1.2.8"]),
        ("28.5.2", "1.2.7", ["runc 1.2.7"]),
        ("28.5.2", "", ["runc"]),
        ("28.5.2", "1.3.3", []),
        ("24.0.9", "1.2.8", []),
    ],
)
def test_an_engine_or_runc_with_known_escapes_is_reported(engine: str, runc: str, warns: list[str]) -> None:
    found = doctor._escapes(engine, runc)
    assert bool(found) == bool(warns)
    assert all(each in found for each in warns)
