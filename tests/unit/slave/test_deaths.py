"""Deaths at bad moments: of the zygote, of shims, of executors with children."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import proc
from helpers.proc import Bed, Container, is_running, wait_until
from offerd.ids import ExecutorID
from offerd.messages import ExecutorInfo, FrameworkInfo
from offerd_isolation import marks
from offerd_isolation.marks import SHIM_FILE
from offerd_linux import process_ids, processes
from offerd_linux.process_ids import ProcessID
from offerd_slave.journal import Journal
from offerd_slave.launch.spec import Launched, NotLaunched
from offerd_slave.records import ContainerCheckpoint
from offerd_slave.workdir import WorkDir, from_checkpoint


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with proc.bed(tmp_path) as made:
        yield made


def kill_zygote(bed: Bed) -> None:
    assert bed.zygote.pid is not None
    os.kill(bed.zygote.pid, signal.SIGKILL)


def test_the_death_of_a_zygote_costs_no_container_and_no_later_launch(bed: Bed) -> None:
    first = bed.launch("forever")
    first.wait_for("ready")
    kill_zygote(bed)
    second = bed.launch("forever")
    second.wait_for("ready")
    assert len(first.pids()) == 1


def test_launch_under_way_when_the_zygote_dies_runs_once(bed: Bed) -> None:
    bed.launch("forever").wait_for("ready")
    assert bed.zygote.pid is not None
    os.kill(bed.zygote.pid, signal.SIGSTOP)
    spec = bed.request("forever")
    bed.zygote.launch(spec)
    kill_zygote(bed)
    answer = bed.answer(spec.container_id)
    assert isinstance(answer, Launched)
    wait_until(lambda: len(processes.descendants(answer.shim.pid)) == 1, "executor runs")


def test_launch_whose_shim_was_forked_before_the_zygote_died_is_not_doubled(bed: Bed) -> None:
    container = bed.launch("forever", container_id="c")
    container.wait_for("ready")
    kill_zygote(bed)
    # The slave repeats a launch if its answer was lost with the zygote.
    spec = bed.request("forever", container_id="other")
    from dataclasses import replace

    bed.zygote.launch(replace(spec, container_id=container.container_id, container_dir=container.directory))
    del bed.answers[container.container_id]
    answer = bed.answer(container.container_id)
    assert isinstance(answer, Launched)
    assert answer.shim == container.shim
    assert (spec.sandbox / "stdout").exists() is False


def test_a_zygote_that_cannot_start_fails_launches_and_is_not_restarted_in_a_loop(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.launch("forever").wait_for("ready")
    monkeypatch.setattr("offerd_slave.launch.zygote_client.ZYGOTE", ("/bin/false",))
    kill_zygote(bed)
    spec = bed.request("forever")
    bed.zygote.launch(spec)
    answer = bed.answer(spec.container_id)
    assert isinstance(answer, NotLaunched)
    assert "died twice" in answer.message
    wait_until(lambda: bed.zygote.replies() == [] and bed.zygote.pid is None, "no more tries")
    monkeypatch.undo()
    bed.launch("forever").wait_for("ready")


@pytest.mark.parametrize("kind", ["plain", "stubborn", "own_session", "orphan", "stranger"])
def test_killed_shim_leaves_no_process_where_the_zygote_lives(bed: Bed, kind: str) -> None:
    container = bed.launch("litter", kind)
    container.wait_for("ready")
    pids = container.pids()
    process_ids.send(container.shim)
    wait_until(lambda: not [pid for pid in pids if is_running(pid)], "all dead")
    assert bed.ended(container) is None


@pytest.mark.parametrize("kind", ["plain", "stubborn", "own_session", "orphan", "stranger"])
def test_executor_that_ends_leaves_no_process(bed: Bed, kind: str) -> None:
    container = bed.launch("litter_and_exit", kind)
    record = bed.ended(container)
    assert record is not None
    assert record.exit_status == 0
    marked = [p.pid for p in processes.everyone() if str(container.directory).encode() in _cwd(p.pid)]
    assert marked == []


def _cwd(pid: int) -> bytes:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return b""


def test_executor_with_hundreds_of_children_is_ended_completely(bed: Bed) -> None:
    container = bed.launch("litter", *["own_session"] * 200)
    container.wait_for("ready")
    pids = container.pids()
    assert len(pids) == 201
    os.kill(pids[0], signal.SIGKILL)
    assert bed.ended(container) is not None
    assert [pid for pid in pids if is_running(pid)] == []


def test_shim_file_names_the_shim(bed: Bed) -> None:
    container = bed.launch("forever")
    said = json.loads((container.directory / SHIM_FILE).read_bytes())
    assert ProcessID(**said) == container.shim


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"boot_id":"\xff","pid":1,"start_ticks":1}'])
def test_a_shim_missing_in_the_checkpoint_is_found_by_its_own_file(bed: Bed, content: bytes | None) -> None:
    container = bed.launch("forever")
    if content is not None:
        (container.directory / SHIM_FILE).write_bytes(content)
    workdir = WorkDir(bed.work_dir)
    framework, executor = FrameworkInfo("f"), ExecutorInfo(ExecutorID("e"))
    workdir.save_container(ContainerCheckpoint(container.container_id, framework, executor, "token", "noop"))
    (found,) = workdir.read(Journal(bed.work_dir / "tasks.journal")).containers
    workdir.release()
    assert from_checkpoint(found.shim) == (container.shim if content is None else None)


def test_output_written_just_before_the_end_is_kept(bed: Bed) -> None:
    container = bed.launch("write_lines", "5000", "100")
    assert bed.ended(container) is not None
    assert container.output().count("\n") == 5000


def test_watching_a_shim_that_is_gone_is_refused_and_its_record_can_be_read(bed: Bed) -> None:
    container = bed.launch("exit_with", "7")
    bed.ended(container)
    wait_until(lambda: process_ids.find(container.shim) is None, "reaped")
    assert not bed.exits.watch(container.container_id, container.shim, container.directory)
    record = bed.exits.record(container.directory)
    assert record is not None
    assert record.exit_status == 7


def test_watching_a_process_of_another_start_time_or_boot_is_refused(bed: Bed) -> None:
    container = bed.launch("forever")
    shim = container.shim
    for stale in (
        ProcessID(shim.boot_id, shim.pid, shim.start_ticks - 1),
        ProcessID("another-boot", shim.pid, shim.start_ticks),
    ):
        assert not bed.exits.watch(container.container_id, stale, container.directory)
        assert not process_ids.send(stale)
    assert is_running(shim.pid)


def test_each_end_is_reported_once_and_forgotten_ones_not_at_all(bed: Bed) -> None:
    reported, forgotten = bed.launch("exit_with", "0"), bed.launch("exit_with", "0")
    bed.exits.forget(forgotten.container_id)
    ends: list[object] = []

    def both_are_over(containers: tuple[Container, ...] = (reported, forgotten)) -> bool:
        ends.extend(name for name, _ in bed.exits.ended())
        return not any(is_running(each.shim.pid) for each in containers)

    wait_until(both_are_over, "both over")
    ends.extend(name for name, _ in bed.exits.ended())
    assert ends == [reported.container_id]
    assert bed.exits.ended() == []


def test_a_damaged_exit_record_counts_as_missing(bed: Bed) -> None:
    container = bed.launch("exit_with", "0")
    bed.ended(container)
    (container.directory / "exit").write_bytes(b"\xff{")
    assert bed.exits.record(container.directory) is None


def test_a_shim_with_a_bug_leaves_a_trace_and_no_process(bed: Bed) -> None:
    container = bed.launch("forever")
    container.wait_for("ready")
    (container.directory / ".exit").unlink()
    os.kill(container.pids()[0], signal.SIGTERM)
    assert bed.ended(container) is None
    assert "FileNotFoundError" in (container.directory / "shim.err").read_text()


def test_forks_show_their_marks_and_names_and_no_secrets(bed: Bed) -> None:
    environment = {"PYTHONPATH": str(proc.TESTS), "OFFERD_TOKEN": "secret"}
    container = bed.launch("forever", environment=environment)
    container.wait_for("ready")
    executor = container.pids()[0]
    shown = {pid: processes.environment(pid) for pid in (container.shim.pid, executor)}
    mark = processes.variable(shown[executor], marks.CONTAINER_MARK)
    assert mark is not None
    assert mark.endswith(f"/{container.container_id}")
    assert processes.variable(shown[container.shim.pid], marks.CONTAINER_MARK) == mark
    assert processes.variable(shown[container.shim.pid], marks.SHIM_MARK) == str(container.shim.pid)
    assert processes.variable(shown[executor], marks.SHIM_MARK) is None
    assert not any(b"secret" in environ for environ in shown.values())
    titles = [Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") for pid in shown]
    assert titles == [f"offerd-shim {container.container_id}", "offerd-executor helpers.proc_executor"]
