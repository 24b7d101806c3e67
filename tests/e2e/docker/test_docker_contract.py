"""The docker module with a real engine: the contract of all modules. The executors' Python is the image's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import docker_images
from helpers.docker_engine import WITH_PYTHON, DockerEngine
from helpers.isolation_contract import IsolationContract
from helpers.proc import Bed
from offerd.resources import Resources
from offerd_isolation.base import Isolation, IsolationOptions
from offerd_isolation.cgroups.limits import EXECUTOR_MEM_BYTES
from offerd_isolation.docker import running
from offerd_isolation.docker.module import DockerIsolation

pytestmark = pytest.mark.docker


@pytest.fixture(scope="session")
def python_engine(shared_engine: DockerEngine) -> DockerEngine:
    """The engine with the image that has Python."""
    shared_engine.load(WITH_PYTHON, docker_images.python_image(), {"PATH": "/usr/bin:/bin"})
    return shared_engine


@pytest.mark.usefixtures("python_engine", "engine")
class TestDockerContract(IsolationContract):
    """Everything in the contract."""

    def make(self, work_dir: Path) -> Isolation:
        return DockerIsolation(work_dir, IsolationOptions(image=WITH_PYTHON, pull="never"))

    def test_an_update_of_the_engine_does_not_restore_an_old_limit(
        self, bed: Bed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its API cannot express "no limit any more", and any update writes all limits that it remembers."""
        monkeypatch.setattr(running, "SETTLED_S", -1.0)
        container = bed.launch("forever")
        assert isinstance(bed.isolation, DockerIsolation)
        group = bed.isolation._running[container.container_id].group
        for mem, limit_bytes in (("64M", (64 << 20) + EXECUTOR_MEM_BYTES), ("0M", None)):
            bed.isolation.update(container.container_id, Resources.of(cpus=1, mem=mem))
            for _ in range(3):
                assert list(bed.isolation.verify()) == []
                assert group.mem_limit() == limit_bytes
