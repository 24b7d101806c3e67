"""The OpenAPI document is true: schemathesis asks what it allows, and what it does not, and checks each answer against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.gateway import HeldGateway, framework_of, two_owners
from offerd.protocol.key_messages import Rights

EXAMPLES = int(os.environ.get("OFFERD_SCHEMA_EXAMPLES", "20"))
"""Random requests to each route, beside those that go through each parameter's limits."""
ENDLESS = ["/v1/live", "/v1/events"]
UNSAID = "positive_data_acceptance"
"""Not checked: the document cannot say that `since` is before `until`, nor what a place in a listing looks like."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldGateway]:
    keys = {"root": Rights(operator=True), "alice": Rights(roles=["*"])}
    with HeldGateway(tmp_path_factory.mktemp("web"), keys) as gateway:
        gateway.take(two_owners())
        yield gateway
        assert gateway.faults == []


def schemathesis(gateway: HeldGateway, directory: Path, owner: str) -> None:
    """Run its command; a failure has its report."""
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{gateway.url}/v1/openapi.json",
        "--exclude-checks",
        UNSAID,
    ]
    for path in ENDLESS:
        command += ["--exclude-path", path]
    token = gateway.token(owner)
    done = subprocess.run(
        [*command, "--seed", "1", "--max-examples", str(EXAMPLES), "--header", f"Authorization: Bearer {token}"],
        capture_output=True, text=True, check=False, cwd=directory, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_answers_to_a_user_about_anything_are_as_the_document_says(
    gateway: HeldGateway, tmp_path: Path
) -> None:
    schemathesis(gateway, tmp_path, "alice")


@pytest.mark.slow
def test_answers_to_an_operator_about_what_there_is_are_as_the_document_says(
    gateway: HeldGateway, tmp_path: Path
) -> None:
    there = {"framework": framework_of("alice"), "task": "task-alice", "slave": "S1"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in there.items()]
    (tmp_path / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines, ""]))
    schemathesis(gateway, tmp_path, "root")
