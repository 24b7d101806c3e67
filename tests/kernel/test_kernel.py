"""The kernel of this ring has what its other tests need."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def test_all_controllers_are_there() -> None:
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(
        (CGROUPS / "cgroup.controllers").read_text().split()
    )


def test_the_test_runs_as_root_and_may_make_cgroups() -> None:
    assert os.geteuid() == 0
    made = CGROUPS / "offerd-probe"
    made.mkdir()
    assert (made / "cgroup.kill").exists()
    made.rmdir()
