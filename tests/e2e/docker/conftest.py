"""One engine for all tests of this folder; those that restart one have their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from helpers import docker_engine
from helpers.docker_engine import DockerEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with the reason if there can be no engine."""
    here = [item for item in items if item.get_closest_marker("docker")]
    if here and (reason := docker_engine.missing()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[DockerEngine]:
    """With the two images."""
    with docker_engine.engine() as made:
        yield made


@pytest.fixture
def engine(shared_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """The engine that modules and slaves of this test find."""
    monkeypatch.setenv("DOCKER_HOST", shared_engine.address)
    assert os.environ["DOCKER_HOST"]
    return shared_engine
