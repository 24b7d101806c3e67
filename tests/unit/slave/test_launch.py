"""Launching: what an executor gets, how its end is recorded, what a launch costs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import proc
from helpers.accounts import NOBODY
from helpers.proc import Bed, is_running, wait_until
from offerd_isolation.marks import CONTAINER_MARK
from offerd_slave.launch.executor_entry import first_closed
from offerd_slave.launch.spec import NotLaunched
from offerd_slave.launch.zygote_client import ZygoteClient


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with proc.bed(tmp_path) as made:
        yield made


def shown(output: str, word: str) -> list[str]:
    """The words after `word` in the output of an executor about itself."""
    return next(line for line in output.splitlines() if line.split()[0] == word).split()[1:]


def test_module_gets_its_arguments_and_nothing_of_the_slave(bed: Bed) -> None:
    container = bed.launch("show", "with blanks", environment={"PYTHONPATH": str(proc.TESTS), "A": "b=c"})
    record = bed.ended(container)
    assert record is not None
    assert record.exit_status == 0
    output = container.output()
    assert shown(output, "argv") == ["helpers.proc_executor", "show", "with", "blanks"]
    assert shown(output, "cwd") == [str(container.sandbox)]
    assert shown(output, "session") == ["True"]
    assert shown(output, "blocked") == []
    # Python itself ignores these two
    assert shown(output, "ignored") == [str(int(signal.SIGPIPE)), str(int(signal.SIGXFSZ))]
    assert shown(output, "fds") == ["0", "1", "2", "3"]  # 3 is the listing itself
    variables = [line for line in output.splitlines() if "=" in line]
    assert variables == [
        "A=b=c",
        f"{CONTAINER_MARK}={output.split(CONTAINER_MARK + '=')[1].split()[0]}",
        f"PYTHONPATH={proc.TESTS}",
    ]
    assert container.output("stderr") == "on stderr\n"


def test_command_gets_its_arguments_and_nothing_of_the_slave(bed: Bed) -> None:
    script = "env | sort; pwd; ls /proc/self/fd; grep -E 'SigIgn|SigBlk|NoNewPrivs' /proc/self/status"
    container = bed.launch(
        "/bin/sh", "-c", script, module="", environment={"PATH": "/usr/bin:/bin", "A": "b"}
    )
    assert bed.ended(container) is not None
    lines = container.output().splitlines()
    assert lines[0] == "A=b"
    assert str(container.sandbox) in lines
    numbers = [line for line in lines if line.isdigit()]
    assert numbers == ["0", "1", "2", "3"]
    assert "SigBlk:\t0000000000000000" in lines
    (ignored,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn")]
    # Signals 32 and 33 are glibc's own: its posix_spawn, by which make starts us, has them ignored, and no program can undo it.
    assert ignored & ~(0b11 << 31) == 0
    assert "NoNewPrivs:\t1" in lines


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_status_is_recorded(bed: Bed, status: int) -> None:
    record = bed.ended(bed.launch("exit_with", str(status)))
    assert record is not None
    assert record.exit_status == status
    assert record.peak_mem_bytes > 1 << 20


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_signal_is_recorded(bed: Bed, number: signal.Signals) -> None:
    record = bed.ended(bed.launch("die_by", str(int(number))))
    assert record is not None
    assert record.exit_status == -number


def test_exception_ends_with_status_1_and_its_traceback(bed: Bed) -> None:
    container = bed.launch("raise_error")
    record = bed.ended(container)
    assert record is not None
    assert record.exit_status == 1
    assert "RuntimeError: on purpose" in container.output("stderr")


def test_module_that_does_not_exist_is_recorded_with_its_name(bed: Bed) -> None:
    record = bed.ended(bed.launch(module="no_such_module"))
    assert record is not None
    assert record.exit_status == 1
    assert "no_such_module: cannot be run: No module named" in record.message


@pytest.mark.root
def test_a_python_that_a_user_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/python").touch()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.chmod(tmp_path, 0o755)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.write(writing, first_closed(f"{tmp_path}/closed/python").encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        closed = said.read()
    os.waitpid(pid, 0)
    # The directories above it are closed: pytest makes them for its own user.
    assert closed in [str(path) for path in (tmp_path / "closed", *tmp_path.parents)]
    assert first_closed(f"{tmp_path}/closed/python") == ""


def test_program_that_does_not_exist_is_recorded_with_its_name(bed: Bed) -> None:
    record = bed.ended(bed.launch("/no/such/program", module=""))
    assert record is not None
    assert record.exit_status == 127
    assert record.message == "/no/such/program: cannot be run: No such file or directory"


def test_program_that_may_not_be_run_is_recorded(bed: Bed) -> None:
    record = bed.ended(bed.launch("/etc/passwd", module=""))
    assert record is not None
    assert record.message == "/etc/passwd: cannot be run: Permission denied"


def test_a_launch_with_nothing_to_run_fails(bed: Bed) -> None:
    spec = bed.request(module="")
    bed.zygote.launch(spec)
    answer = bed.answer(spec.container_id)
    assert isinstance(answer, NotLaunched)
    assert "neither a module nor a command" in answer.message


def test_launch_that_is_too_large_fails_and_the_next_does_not(bed: Bed) -> None:
    spec = bed.request("forever", environment={"LARGE": "x" * 200_000})
    bed.zygote.launch(spec)
    assert isinstance(bed.answer(spec.container_id), NotLaunched)
    bed.launch("forever").wait_for("ready")


def test_launch_without_a_container_directory_fails(bed: Bed) -> None:
    spec = bed.request("forever")
    os.rename(spec.container_dir, bed.work_dir / "gone")
    bed.zygote.launch(spec)
    answer = bed.answer(spec.container_id)
    assert isinstance(answer, NotLaunched)
    assert "No such file" in answer.message


def test_launch_into_a_sandbox_with_foreign_logs_fails_and_leaves_them(bed: Bed) -> None:
    spec = bed.request("forever")
    target = bed.work_dir / "precious"
    target.write_text("precious")
    (spec.sandbox / "stdout").symlink_to(target)
    bed.zygote.launch(spec)
    answer = bed.answer(spec.container_id)
    assert isinstance(answer, NotLaunched)
    assert "container not set up" in answer.message
    assert target.read_text() == "precious"


def test_many_launches_at_once_are_each_answered_once(bed: Bed) -> None:
    specs = [bed.request("exit_with", "0") for _ in range(40)]
    for spec in specs:
        bed.zygote.launch(spec)
    for spec in specs:
        assert not isinstance(bed.answer(spec.container_id), NotLaunched)
    for spec in specs:
        wait_until(lambda spec=spec: bed.exits.record(spec.container_dir), "exit record")  # type: ignore[misc]


def test_a_shim_ignores_signals_that_can_be_ignored(bed: Bed) -> None:
    container = bed.launch("forever")
    container.wait_for("ready")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(container.shim.pid, number)
    os.kill(container.pids()[0], signal.SIGTERM)
    record = bed.ended(container)
    assert record is not None
    assert record.exit_status == -signal.SIGTERM


def test_shim_is_small(bed: Bed) -> None:
    container = bed.launch("forever")
    container.wait_for("ready")
    held_kib: dict[str, int] = {}
    for line in Path(f"/proc/{container.shim.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = line.split()
        held_kib[name] = int(amount)
    assert held_kib["Rss:"] < 11 * 1024
    assert held_kib["Private_Dirty:"] + held_kib["Private_Clean:"] < 3 * 1024


def test_launch_of_a_module_costs_a_small_part_of_starting_python(bed: Bed) -> None:
    # 5 ms against 70 measured on two cores. Compared with each other in turns, because others want the processors, too.
    bed.launch("forever").wait_for("ready")
    launches_s, starts_s = [], []
    for _ in range(5):
        began = time.perf_counter()
        bed.launch("forever").wait_for("ready")
        launches_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-E", "-s", "-c", "import offerd.messages"], check=True)
        starts_s.append(time.perf_counter() - began)
    assert min(launches_s) < min(starts_s) / 3


@pytest.mark.parametrize("are_images_run", [True, False])
def test_only_a_zygote_for_images_preloads_modules_for_containers(
    are_images_run: bool,
) -> None:
    client = ZygoteClient(logging.getLogger("test"), are_images_run=are_images_run)
    client.start()
    try:
        wait_until(lambda: client.replies() == [] and client.is_ready, "the zygote is ready")
        maps = Path(f"/proc/{client.pid}/maps").read_text()
        assert ("zmq" in maps) == are_images_run
    finally:
        client.close()


def test_closing_the_client_of_the_zygote_leaves_executors_alone(bed: Bed) -> None:
    container = bed.launch("forever")
    container.wait_for("ready")
    zygote = bed.zygote.pid
    assert zygote is not None
    bed.zygote.close()
    assert not is_running(zygote)
    executor = container.pids()[0]
    os.kill(executor, signal.SIGTERM)
    record = bed.ended(container)
    assert record is not None
    assert record.exit_status == -signal.SIGTERM
    bed.zygote = type(bed.zygote)(bed.zygote._log)


def test_executors_have_the_limit_of_descriptors_that_the_slave_was_started_with(
    tmp_path: Path,
) -> None:
    script = """
import logging, os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from helpers.proc import bed
from offerd.wire.descriptors import descriptors, raise_limit
raise_limit()
assert descriptors() > 200, descriptors()
with bed(Path(sys.argv[1])) as it:
    container = it.launch("/bin/sh", "-c", "ulimit -n", module="", environment={"PATH": "/usr/bin:/bin"})
    it.ended(container)
    print(container.output())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(proc.TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["200"], done.stderr
