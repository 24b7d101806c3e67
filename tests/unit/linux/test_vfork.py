"""The vfork in machine code: what it starts, and how it reports a failure."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from offerd_linux import vfork
from offerd_linux.clone import CLONE_VFORK, CLONE_VM, CloneArguments

run = vfork.load()
pytestmark = pytest.mark.skipif(run is None, reason="only on x86-64, where memory may be made executable")


def start(*last: tuple[int, bytes, list[bytes], list[bytes]]) -> tuple[int, int]:
    calls = vfork.Calls()
    calls.add(vfork.SETSID)
    for call in last:
        calls.add(*call)
    assert run is not None
    return calls.run(run, CloneArguments(flags=CLONE_VM | CLONE_VFORK, exit_signal=signal.SIGCHLD))


def test_it_starts_a_program_in_a_session_of_its_own() -> None:
    script = b'[ "$(ps -o sid= -p $$)" -eq $$ ] && [ "$A" = b ] && exit 7'
    pid, trouble = start((vfork.EXECVE, b"/bin/sh", [b"sh", b"-c", script], [b"PATH=/usr/bin:/bin", b"A=b"]))
    assert trouble == 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_first_call_that_fails_ends_the_child_and_is_reported() -> None:
    pid, trouble = start(
        (vfork.EXECVE, b"/no/such/program", [b"x"], []), (vfork.EXECVE, b"/bin/true", [b"true"], [])
    )
    assert trouble == errno.ENOENT
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127


def test_a_zero_byte_is_refused_before_anything_is_started() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        vfork.Calls().add(vfork.EXECVE, b"/bin/true", [b"tr\0ue"], [])
