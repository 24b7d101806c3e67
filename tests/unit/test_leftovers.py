"""A test that fails half-way leaves no program behind."""

from __future__ import annotations

import subprocess

import pytest

from helpers import leftovers

ENDS_POLITELY = "trap 'echo ended; exit' INT; echo up; while :; do sleep 0.01; done"


def test_processes_of_a_failed_test_are_ended_politely_and_their_pipes_closed() -> None:
    def fail_half_way() -> None:
        programs.append(leftovers.start(["sh", "-c", ENDS_POLITELY], stdout=subprocess.PIPE))
        programs.append(leftovers.start(["sh", "-c", "exit 3"], stdout=subprocess.PIPE))
        programs[1].wait()
        assert programs[0].stdout is not None
        assert programs[0].stdout.readline() == b"never"

    programs: list[subprocess.Popen[bytes]] = []
    with pytest.raises(AssertionError), leftovers.ended_if_it_fails():
        fail_half_way()
    assert [program.returncode for program in programs] == [0, 3]
    assert all(program.stdout is not None and program.stdout.closed for program in programs)


def test_processes_that_ignore_that_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "END_S", 0.1)

    def fail_half_way() -> None:
        program = leftovers.start(
            ["sh", "-c", "trap '' INT; echo up; exec sleep 600"], stdout=subprocess.PIPE
        )
        programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == b"never"

    programs: list[subprocess.Popen[bytes]] = []
    with pytest.raises(AssertionError), leftovers.ended_if_it_fails():
        fail_half_way()
    assert programs[0].returncode == -9


def test_processes_of_a_passed_test_are_left_alone() -> None:
    with leftovers.ended_if_it_fails():
        program = leftovers.start(["sleep", "600"])
    assert program.poll() is None
    program.kill()
    program.wait()
