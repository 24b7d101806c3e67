"""The docker module with a real engine: the contract of all modules. The executors' Python is the image's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import docker_images
from helpers.docker_engine import WITH_PYTHON, DockerEngine
from helpers.isolation_contract import IsolationContract
from offerd_isolation.base import Isolation, IsolationOptions
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
