"""The commands of docs/docker.md, unchanged, with images of the same names."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.docker_engine import DockerEngine
from helpers.docker_images import busybox_image, python_image
from helpers.keyring import TABLES, Keyring
from helpers.shells import Shell
from offerd_cli.local_cluster import LocalCluster

pytestmark = pytest.mark.docker


def test_a_slave_of_one_image_runs_tasks_in_another_that_it_allows(
    engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load("debian:12", busybox_image(), {"PATH": "/bin"})
    engine.load("python:3.12", python_image(), {"PATH": "/usr/bin:/bin"})
    keyring = Keyring(tmp_path, TABLES | {"somebody": 'roles = ["*"]\nusers = ["root"]'})
    for name, value in keyring.environment("ops").items():
        monkeypatch.setenv(name, value)
    with LocalCluster(0, master_options=tuple(keyring.master_words())) as cluster:
        where = {"OFFERD_MASTER": cluster.address}
        keys = [where | keyring.environment(name) for name in ("host", "somebody")]
        # The slave's files are in a directory of this test.
        elsewhere = f"--work-dir {tmp_path}/work --http-port 0 --ephemeral"
        with (
            Shell(tmp_path, None, keys[0]) as host,
            Shell(tmp_path, None, keys[1]) as somebody,
        ):
            said: list[str] = []
            somebody.follow(
                "docs/docker.md",
                {
                    "offerd slave": lambda line: host.begin(f"{line} {elsewhere}", somebody.has_slaves(1)),
                    "offerd run": lambda line: said.append(somebody.type(line)),
                },
            )
    assert said == ["hello\n"]
