"""The cgroups module on a real kernel: the contract of all modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.isolation_contract import IsolationContract
from offerd_isolation.base import Isolation
from offerd_isolation.cgroups.module import CgroupsIsolation

pytestmark = pytest.mark.cgroup2


class TestCgroupsContract(IsolationContract):
    """Everything in the contract."""

    def make(self, work_dir: Path) -> Isolation:
        return CgroupsIsolation(work_dir)
