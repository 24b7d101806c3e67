"""How much memory a process holds."""

from __future__ import annotations

import os

import pytest

from offerd_linux import memory, processes


def test_what_may_not_be_asked_counts_as_resident(monkeypatch: pytest.MonkeyPatch) -> None:
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
