"""The contract of isolation modules, with real processes. Subclass it, and define how a module is made:

class TestNoop(IsolationContract):
    def make(self, work_dir: Path) -> Isolation: ...
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.proc import Bed, is_running, wait_until
from offerd.ids import ContainerID, TaskID
from offerd.resources import Resources
from offerd_isolation.base import Isolation, Usage
from offerd_linux import process_ids

ALL_KINDS = ("plain", "stubborn", "own_session", "orphan", "stranger")


class IsolationContract:
    """The contract; `marks_tasks`: whether `kill_task` finds processes by OFFERD_TASK_ID."""

    marks_tasks = True

    def make(self, work_dir: Path) -> Isolation:
        """A module for this work directory."""
        raise NotImplementedError

    @pytest.fixture
    def bed(self, tmp_path: Path) -> Iterator[Bed]:
        made = Bed(tmp_path, self.make(tmp_path))
        yield made
        made.close()

    def test_it_is_available_here(self, tmp_path: Path) -> None:
        assert type(self.make(tmp_path)).available() == ""

    def test_a_module_that_limits_tasks_does_not_block(self, tmp_path: Path) -> None:
        made = self.make(tmp_path)
        assert not (made.blocking and made.limits_tasks)

    def test_cleanup_of_an_unknown_container_succeeds_repeatedly(self, bed: Bed) -> None:
        unknown = ContainerID("never-prepared")
        assert bed.isolation.cleanup(unknown)
        assert bed.isolation.cleanup(unknown)

    def test_an_unknown_container_has_used_nothing(self, bed: Bed) -> None:
        assert bed.isolation.usage(ContainerID("never-prepared")) == Usage()

    def test_prepare_may_be_repeated(self, bed: Bed) -> None:
        first = bed.request("forever", container_id="twice")
        os.rename(first.container_dir, bed.work_dir / "aside")
        assert bed.request("forever", container_id="twice").environment == first.environment

    def test_isolate_and_update_may_be_repeated(self, bed: Bed) -> None:
        container = bed.launch("forever")
        for _ in range(2):
            bed.isolation.isolate(container.container_id, container.shim)
            bed.isolation.update(container.container_id, Resources.of(cpus=1, mem="64M"))
        container.wait_for("ready")
        assert bed.isolation.usage(container.container_id).processes >= 1

    def test_cleanup_kills_every_kind_of_process(self, bed: Bed) -> None:
        containers = {kind: bed.launch("litter", kind) for kind in ALL_KINDS}
        for kind, container in containers.items():
            container.wait_for("ready")
            pids = container.pids()
            assert len(pids) == 2, kind
            bed.cleanup(container)
            assert [pid for pid in [container.shim.pid, *pids] if is_running(pid)] == [], kind

    def test_cleanup_lets_the_shim_write_its_record(self, bed: Bed) -> None:
        container = bed.launch("litter", *ALL_KINDS)
        container.wait_for("ready")
        bed.cleanup(container)
        record = bed.exits.record(container.directory)
        assert record is not None
        assert record.exit_status == -signal.SIGKILL

    def test_cleanup_ends_a_container_whose_processes_are_stopped(self, bed: Bed) -> None:
        container = bed.launch("litter", "plain")
        container.wait_for("ready")
        for pid in container.pids():
            os.kill(pid, signal.SIGSTOP)
        bed.cleanup(container)

    def test_cleanup_kills_processes_of_a_dead_shim_even_without_a_zygote(self, bed: Bed) -> None:
        kinds = ("plain", "stubborn", "own_session", "orphan")
        containers = {kind: bed.launch("litter", kind) for kind in kinds}
        for container in containers.values():
            container.wait_for("ready")
        assert bed.zygote.pid is not None
        os.kill(bed.zygote.pid, signal.SIGKILL)
        for kind, container in containers.items():
            pids, shim = container.pids(), container.shim
            process_ids.send(shim)
            wait_until(lambda pid=shim.pid: not is_running(pid), "shim dead")  # type: ignore[misc]
            assert all(is_running(pid) for pid in pids), kind
            bed.cleanup(container)
            assert [pid for pid in pids if is_running(pid)] == [], kind

    def test_cleanup_leaves_other_containers_alone(self, bed: Bed) -> None:
        victim, other = bed.launch("litter", *ALL_KINDS), bed.launch("litter", *ALL_KINDS)
        victim.wait_for("ready")
        other.wait_for("ready")
        before = other.pids()
        bed.cleanup(victim)
        assert other.pids() == before

    def test_usage_counts_memory_time_and_processes_and_ends_with_the_container(self, bed: Bed) -> None:
        container = bed.launch("hog", "50")
        container.wait_for("ready")
        usage = bed.isolation.usage(container.container_id)
        assert usage.processes == 1
        assert usage.mem_bytes > 50 << 20
        assert usage.peak_mem_bytes >= usage.mem_bytes
        assert usage.cpu_s >= 0.09
        bed.cleanup(container)
        assert bed.isolation.usage(container.container_id) == Usage()

    def test_a_restarted_module_knows_its_containers_and_finds_orphans(self, bed: Bed) -> None:
        known, orphan = bed.launch("litter", "own_session"), bed.launch("litter", "own_session")
        known.wait_for("ready")
        orphan.wait_for("ready")
        bed.isolation = self.make(bed.work_dir)
        found = bed.isolation.recover({known.container_id: known.shim})
        assert list(found) == [orphan.container_id]
        pids = orphan.pids()
        bed.cleanup(orphan)
        assert [pid for pid in pids if is_running(pid)] == []
        assert len(known.pids()) == 2
        assert bed.isolation.usage(known.container_id).processes == 2

    def test_a_container_whose_shim_was_not_noted_is_found(self, bed: Bed) -> None:
        container = bed.launch("forever")
        container.wait_for("ready")
        bed.isolation = self.make(bed.work_dir)
        assert list(bed.isolation.recover({container.container_id: None})) == []
        assert bed.isolation.usage(container.container_id).processes == 1

    def test_a_module_of_another_work_directory_sees_nothing(self, bed: Bed, tmp_path: Path) -> None:
        container = bed.launch("forever", container_id="same-name")
        container.wait_for("ready")
        (tmp_path / "other").mkdir()
        other = self.make(tmp_path / "other")
        assert list(other.recover({})) == []
        assert other.cleanup(container.container_id)
        assert len(container.pids()) == 1

    def test_a_process_with_the_pid_of_a_shim_of_another_boot_is_not_touched(self, bed: Bed) -> None:
        container = bed.launch("forever")
        container.wait_for("ready")
        stale = type(container.shim)("another-boot", container.shim.pid, container.shim.start_ticks)
        restarted = self.make(bed.work_dir / "containers")
        assert list(restarted.recover({ContainerID("old"): stale})) == []
        assert restarted.cleanup(ContainerID("old"))
        assert is_running(container.shim.pid)

    def test_kill_task_kills_that_task_alone(self, bed: Bed) -> None:
        container = bed.launch("tasks", "one", "two")
        container.wait_for("ready")
        wait_until(lambda: len(container.pids()) == 7, "two tasks of three processes each")
        killed = bed.isolation.kill_task(container.container_id, TaskID("one"))
        assert killed == self.marks_tasks
        if killed:
            wait_until(lambda: len(container.pids()) == 4, "one task less")
            # The kernel takes a process out of its cgroup a moment after it has died.
            wait_until(
                lambda: not bed.isolation.kill_task(container.container_id, TaskID("one")),
                "nothing of it to be left to kill",
            )
            assert len(container.pids()) == 4

    def test_kill_task_returns_false_for_a_task_it_cannot_find(self, bed: Bed) -> None:
        container = bed.launch("forever")
        container.wait_for("ready")
        assert not bed.isolation.kill_task(container.container_id, TaskID("unknown"))
        assert len(container.pids()) == 1
