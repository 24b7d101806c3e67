"""How much memory a process holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from offerd_linux import memory, processes


def test_resident_memory_counts_where_more_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    me = processes.read(os.getpid())
    assert me is not None
    assert 0 < memory.held_bytes(me) <= me.rss_bytes
    assert memory.held_bytes(me._replace(pid=2**22)) == 0
    monkeypatch.setattr(processes, "PROC", "/proc/self/root/dev/null/..")
    assert memory.held_bytes(me) == me.rss_bytes


def test_the_peak_is_no_less_than_what_is_resident() -> None:
    me = processes.read(os.getpid())
    assert me is not None
    assert memory.peak_since_exec_bytes() >= me.rss_bytes // 2


@pytest.mark.root
def test_a_process_in_thousands_of_groups_knows_its_peak() -> None:
    program = "from offerd_linux import memory; print(memory.peak_since_exec_bytes())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, extra_groups=range(10_000, 14_000), capture_output=True, check=False)
    assert int(done.stdout) > 0, done.stderr
