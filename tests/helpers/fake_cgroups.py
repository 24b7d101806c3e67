"""Directories that look like cgroup v2 of some kernel: a new one has all control files at once, or some of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd_isolation.cgroups import host, tree
from offerd_isolation.cgroups.contents import Words
from offerd_isolation.cgroups.controllers import Controller

FILES = {
    "cgroup.controllers": "cpu io cpuset memory pids",
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.events": "populated 0\nfrozen 0",
    "cgroup.kill": "",
    "cgroup.max.depth": "max",
    "cgroup.max.descendants": "max",
    "cpu.weight": "100",
    "cpu.max": "max 100000",
    "cpu.stat": "usage_usec 1500000\nthrottled_usec 0",
    "cpu.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=0",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.current": "8388608",
    "memory.peak": "9437184",
    "memory.stat": "anon 4194304\nshmem 0\nkernel 4096",
    "memory.events": "oom 0\noom_kill 0",
    "memory.events.local": "oom 0\noom_kill 0",
    "memory.pressure": "some avg10=2.00 avg60=0.00 avg300=0.00 total=0",
    "pids.max": "max",
    "pids.current": "3",
    "pids.events": "max 0",
    "io.max": "",
    "io.weight": "default 100",
    "io.pressure": "some avg10=3.00 avg60=0.00 avg300=0.00 total=0",
    "cpuset.cpus": "",
}
"""All files that offerd writes or reads, with the contents of a new cgroup."""


_set_property = Controller.set_property


def files_have_no_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a write replace the old contents, as in control files but not in plain ones."""
    monkeypatch.setattr(Controller, "set_property", _set_whole)


def _set_whole(self: Controller, filename: bytes, value: object) -> None:
    path = Path(self.path, filename.decode())
    if path.exists():
        path.write_text("")
    _set_property(self, filename, value)


class FakeCgroups:
    """A host whose cgroups are directories, on a kernel `without` some of these files."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, without: str = "") -> None:
        self.root = root
        self.without = without
        monkeypatch.setattr(tree, "make", self.make)
        monkeypatch.setattr(tree, "_rmdir", self._remove)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        files_have_no_length(monkeypatch)
        # Written as `+cpu`, read as `cpu`.
        monkeypatch.setattr(Words, "sanitize_set", lambda _, names: " ".join(sorted(names)))
        self.make(str(root))
        mount = f"30 25 0:26 / {root} rw - cgroup2 cgroup2 rw"
        self.proc = root.parent / "proc"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/mountinfo").write_text(f"{mount}\n")
        (self.proc / "self/cgroup").write_text("0::/\n")
        self.find_root = host.find_root
        monkeypatch.setattr(host, "find_root", lambda: self.find_root(self.proc, {}))

    def make(self, path: str) -> bool:
        try:
            os.mkdir(path)
        except FileExistsError:
            return False
        for name, text in FILES.items():
            if name != self.without and not (path == str(self.root) and name.split(".")[0] != "cgroup"):
                Path(path, name).write_text(text)
        if path != str(self.root):
            Path(path, "cgroup.type").write_text("domain")
        return True

    def _remove(self, path: str) -> bool:
        """As rmdir does on a cgroup without children."""
        if tree.children(path):
            return False
        if os.path.isdir(path):
            for entry in os.listdir(path):
                os.unlink(f"{path}/{entry}")
            os.rmdir(path)
        return True
