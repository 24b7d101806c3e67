"""What a slave says of who can reach its files."""

from __future__ import annotations

import pytest

from offerd_slave.files_service import out_of_reach

ELSEWHERE = "192.0.2.1:5060"


@pytest.mark.parametrize("served", ["127.0.0.1:5051", "localhost:5051", "[::1]:5051"])
@pytest.mark.parametrize("master", [ELSEWHERE, "[2001:db8::1]:5060", "no-such-name.invalid:5060"])
def test_files_that_this_host_alone_reaches_are_out_of_reach_for_a_master_elsewhere(
    served: str, master: str
) -> None:
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
def test_nothing_is_said_where_both_are_here_or_others_reach_them(served: str, master: str) -> None:
    assert out_of_reach(served, master) == ""
