"""The warning that other hosts cannot reach a slave's files."""

from __future__ import annotations

import pytest

from offerd_slave.files_service import out_of_reach

ELSEWHERE = "192.0.2.1:5060"


@pytest.mark.parametrize("served", ["127.0.0.1:5051", "localhost:5051", "[::1]:5051"])
@pytest.mark.parametrize("master", [ELSEWHERE, "[2001:db8::1]:5060", "no-such-name.invalid:5060"])
def test_a_warning_if_the_master_on_another_host_cannot_reach_the_files(served: str, master: str) -> None:
    said = out_of_reach(served, master)
    assert said.startswith("no other host can reach the files of this slave, and with them its tasks' output")
    assert f"served at {served}, and the master is at {master}; start the slave with --ip ADDRESS" in said


@pytest.mark.parametrize(
    ("served", "master"),
    [
        ("127.0.0.1:5051", "127.0.0.1:5060"),
        ("127.0.0.1:5051", "127.0.1.1:5060"),
        ("127.0.0.1:5051", "localhost:5060"),
        ("192.0.2.2:5051", ELSEWHERE),
        ("0.0.0.0:5051", ELSEWHERE),
    ],
)
def test_no_warning_if_the_master_can_reach_the_files(served: str, master: str) -> None:
    assert out_of_reach(served, master) == ""
