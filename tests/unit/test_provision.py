"""The scripts that install a host: what they take and refuse before they touch anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

COMMON = Path(__file__).resolve().parents[2] / "deploy/provision/common.sh"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("--no-start", 0),
        ("--insecure", 0),
        ("", 2),
        ("--ip 10.0.0.1", 2),
        ("-- --key a.key --authorized b", 0),
    ],
)
def test_without_keys_nothing_is_started_but_what_is_only_installed_needs_none(
    options: str, status: int
) -> None:
    script = f'. "{COMMON}"; usage() {{ :; }}; parse_options {options}'
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize(
    ("host", "written"), [("10.0.0.1", "10.0.0.1:5060"), ("2001:db8::1", "[2001:db8::1]:5060")]
)
def test_commands_of_the_host_find_its_master_by_ipv6_too(host: str, written: str) -> None:
    script = f'. "{COMMON}"; at_port {host} 5060'
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == written
