"""The noop module: the contract of all modules, and its own behaviour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.isolation_contract import IsolationContract
from helpers.proc import bed, is_running, wait_until
from offerd.ids import ContainerID, TaskID
from offerd_isolation import marks, noop
from offerd_isolation.base import Isolation
from offerd_isolation.marks import CONTAINER_MARK
from offerd_isolation.noop import NoopIsolation
from offerd_linux import process_ids, processes


class TestNoopContract(IsolationContract):
    """Everything in the contract."""

    def make(self, work_dir: Path) -> Isolation:
        return NoopIsolation(work_dir)


def test_a_shim_that_hangs_after_its_executor_died_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noop, "LONE_SHIM_S", 0.2)
    with bed(tmp_path) as it:
        container = it.launch("forever")
        container.wait_for("ready")
        process_ids.send(container.shim, signal.SIGSTOP)
        wait_until(lambda: it.isolation.cleanup(container.container_id), "destroyed")
        assert not is_running(container.shim.pid)


def test_cleanup_of_a_container_without_a_shim_is_done_at_once(tmp_path: Path) -> None:
    with bed(tmp_path) as it:
        container = it.launch("exit_with", "0")
        it.ended(container)
        wait_until(lambda: process_ids.find(container.shim) is None, "shim reaped")
        assert it.isolation.cleanup(ContainerID(container.container_id))


def test_a_fork_bomb_below_a_stopped_executor_is_ended_in_short_turns(
    tmp_path: Path,
) -> None:
    with bed(tmp_path) as it:
        container = it.launch("comets", "4")
        container.wait_for("ready")
        time.sleep(1.0)
        turns_s: list[float] = []

        def destroyed() -> bool:
            begun = time.monotonic()
            try:
                return it.isolation.cleanup(container.container_id)
            finally:
                turns_s.append(time.monotonic() - begun)
                time.sleep(0.01)

        wait_until(destroyed, "destroyed")
        turns_s.sort()
        assert turns_s[len(turns_s) // 2] < 0.5, (
            "other calls wait meanwhile; it takes 0.05 s on an idle machine"
        )


# -- marks of other users' processes -----------------------------------------------------------------------------------


class Outsider:
    """A session of root with a process of another user that carries the marks of a container and of its shim."""

    def __init__(self, mark: str) -> None:
        shell = f"{CONTAINER_MARK}={mark} OFFERD_SHIM=$$ exec sleep 600"
        script = (
            "import os, subprocess, sys, time\n"
            "def drop():\n"
            "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "root = subprocess.Popen(['sleep', '600'])\n"
            f"nobody = subprocess.Popen(['sh', '-c', {shell!r}], preexec_fn=drop)\n"
            "print(root.pid, nobody.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        self.leader = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.leader.stdout is not None
        root, self.nobody = map(int, self.leader.stdout.readline().split())
        self.roots = [self.leader.pid, root]
        wait_until(lambda: b"OFFERD_SHIM" in processes.environment(self.nobody), "the mark")

    def close(self) -> None:
        os.killpg(self.leader.pid, signal.SIGKILL)
        self.leader.wait()
        assert self.leader.stdout is not None
        self.leader.stdout.close()


@pytest.fixture
def outsiders() -> Iterator[list[Outsider]]:
    made: list[Outsider] = []
    yield made
    for each in made:
        each.close()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes processes of another user")


@needs_root
def test_a_starting_slave_does_not_end_processes_that_another_user_has_marked(
    tmp_path: Path, outsiders: list[Outsider]
) -> None:
    outsider = Outsider(marks.mark_prefix(tmp_path) + "bogus.1")
    outsiders.append(outsider)
    isolation = NoopIsolation(tmp_path)
    assert list(isolation.recover({})) == []
    assert isolation.cleanup(ContainerID("bogus.1"))
    assert all(map(is_running, [*outsider.roots, outsider.nobody]))


@needs_root
@pytest.mark.parametrize("user", ["", "daemon"])
def test_cleanup_without_a_shim_does_not_touch_other_users_sessions(
    tmp_path: Path, outsiders: list[Outsider], user: str
) -> None:
    tmp_path.chmod(0o711)
    with bed(tmp_path) as it:
        container = it.launch("litter", "own_session", user=user)
        container.wait_for("ready")
        outsider = Outsider(marks.mark_prefix(tmp_path) + container.container_id)
        outsiders.append(outsider)
        pids = container.pids()
        assert it.zygote.pid is not None
        os.kill(it.zygote.pid, signal.SIGKILL)
        process_ids.send(container.shim)
        wait_until(lambda: not is_running(container.shim.pid), "shim dead")
        wait_until(lambda: it.isolation.cleanup(container.container_id), "destroyed")
        assert not any(map(is_running, pids))
        assert all(map(is_running, outsider.roots))
        assert is_running(outsider.nobody) or user == ""


def test_a_task_over_its_memory_is_found_and_shared_pages_count_once(
    tmp_path: Path,
) -> None:
    with bed(tmp_path) as it:
        container = it.launch("hogs")
        wait_until(lambda: container.output().count("has it") >= 3, "all to have their memory")

        def over(whole_mib: int | None, **tasks: int) -> list[tuple[str, str]]:
            limits = {TaskID(name): mib << 20 for name, mib in tasks.items()}
            whole = None if whole_mib is None else whole_mib << 20
            found = it.isolation.over_memory(container.container_id, whole, limits)
            return [(hit.task_id, hit.limit) for hit in found]

        assert over(None, alone=48, shared=48) == [("alone", f"mem={48 << 20}")]
        assert over(None, alone=256, shared=16) == [("shared", f"mem={16 << 20}")]
        assert over(None, shared=48) == [], "no limit, any amount"
        assert over(64, alone=256) == [("", f"mem={64 << 20}")]
        assert over(512, alone=256) == []
        (hit,) = it.isolation.over_memory(container.container_id, None, {TaskID("alone"): 48 << 20})
        assert hit.message.startswith("it had 6")
        assert "memory is watched here, not limited" in hit.message
        assert hit.usage.peak_mem_bytes > 60 << 20
