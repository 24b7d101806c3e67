"""The cgroups module on a real kernel: containers are found again, repaired and removed; and which cgroup is divided."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cgroup_tasks import MIB, TaskBed, task_bed
from helpers.proc import is_running, wait_until
from offerd.ids import TaskID
from offerd.resources import Resources
from offerd_isolation.base import IsolationOptions
from offerd_isolation.cgroups.module import CgroupsIsolation

pytestmark = pytest.mark.cgroup2

ROOT = Path("/sys/fs/cgroup")
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
log = logging.getLogger(__name__)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TaskBed]:
    with task_bed(tmp_path) as made:
        yield made


def cgroups() -> set[Path]:
    """All cgroups of offerd on this host."""
    return {path for path in (ROOT / "offerd.slice").glob("**/") if path.name != "offerd.slice"}


# -- found again --------------------------------------------------------------------------------------------------------


def test_a_restarted_module_finds_tasks_and_sets_their_limits_again(bed: TaskBed) -> None:
    process = bed.task("a", "sleep", "1000")
    assert process is not None
    assert bed.box is not None
    container_id = bed.box.container_id
    (bed.cgroup("a") / "memory.max").write_text("max")
    bed.isolation.close()
    bed.isolation = CgroupsIsolation(bed.work_dir)
    assert list(bed.isolation.recover({container_id: bed.box.shim})) == []
    assert list(bed.isolation.tasks(container_id)) == ["a"]
    bed.isolation.update(container_id, Resources.of(cpus=0.5, mem="64M"))
    bed.isolation.prepare_task(container_id, TaskID("a"), Resources.of(cpus=0.5, mem="64M"))
    assert (bed.cgroup("a") / "memory.max").read_text() == f"{64 * MIB}\n"
    assert process.poll() is None
    bed.end("a")
    assert process.wait() == -9


def test_a_container_below_another_cgroup_is_found_and_goes_on(
    bed: TaskBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a user starts the slave again, in another scope."""
    process = bed.task("a", "sleep", "1000")
    assert process is not None
    assert bed.box is not None
    other = ROOT / "another-scope"
    other.mkdir()
    monkeypatch.setenv("OFFERD_CGROUP", str(other))
    try:
        bed.restart()
        assert list(bed.isolation.tasks(bed.box.container_id)) == ["a"]
        bed.task("b")
        assert (bed.cgroup("b") / "memory.max").read_text() == f"{64 * MIB}\n"
        assert process.poll() is None
        bed.end("a")
        bed.end("b")
        bed.cleanup(bed.box)
        bed.isolation.close()
    finally:
        other.rmdir()
    assert not cgroups()


def test_a_container_of_another_module_is_ended_without_a_cgroup(bed: TaskBed, tmp_path: Path) -> None:
    """The slave ran with `--isolation noop` before, so its containers have no cgroups."""
    with task_bed(tmp_path) as other:
        box = other.launch("litter", "own_session", "orphan")
        box.wait_for("ready")
        path = other.isolation._known(box.container_id).path
        for pid in [box.shim.pid, *box.pids()]:
            (ROOT / "cgroup.procs").write_text(str(pid))
        wait_until(
            lambda: not Path(path, "cgroup.events").read_text().startswith("populated 1"), "moved away"
        )
        for each in sorted(Path(path).glob("**/"), reverse=True):
            each.rmdir()
        other.isolation.close()
        other.isolation = CgroupsIsolation(tmp_path)
        list(other.isolation.recover({box.container_id: box.shim}))
        pids = box.pids()
        other.cleanup(box)
        assert not [pid for pid in [box.shim.pid, *pids] if is_running(pid)]


# -- mended -------------------------------------------------------------------------------------------------------------


def test_limits_changed_from_outside_are_set_again_and_reported(bed: TaskBed) -> None:
    bed.task("a", "sleep", "1000")
    assert list(bed.isolation.verify()) == []
    leaf = bed.cgroup("a")
    (leaf / "memory.max").write_text("max")
    (leaf / "memory.swap.max").write_text("max")
    (bed.cgroup() / "cpu.weight").write_text("7")
    complaints = list(bed.isolation.verify())
    assert len(complaints) == 3
    assert any("task-a: memory.max was max and is 67108864 again" in each for each in complaints)
    assert any("cpu.weight was 7 and is 50 again" in each for each in complaints)
    assert (leaf / "memory.max").read_text() == f"{64 * MIB}\n"
    assert list(bed.isolation.verify()) == []


def test_a_controller_that_was_switched_off_is_switched_on_again(bed: TaskBed) -> None:
    bed.task("a", "sleep", "1000")
    tasks = bed.cgroup("a").parent
    (tasks / "cgroup.subtree_control").write_text("-memory")
    assert not (bed.cgroup("a") / "memory.max").exists()
    assert any("made and set again" in each for each in bed.isolation.verify())
    assert (bed.cgroup("a") / "memory.max").read_text() == f"{64 * MIB}\n"
    assert list(bed.isolation.verify()) == []


def test_a_task_cgroup_that_was_removed_is_made_again(bed: TaskBed) -> None:
    bed.task("a")
    bed.cgroup("a").rmdir()
    assert list(bed.isolation.verify())
    assert (bed.cgroup("a") / "memory.max").read_text() == f"{64 * MIB}\n"


# -- removed ------------------------------------------------------------------------------------------------------------


def test_cleaning_up_a_task_kills_its_processes_and_removes_its_cgroup(bed: TaskBed) -> None:
    left = bed.task("a", "sh", "-c", "trap '' TERM; setsid sleep 1000 & setsid sleep 1000 & sleep 1000")
    other = bed.task("b", "sleep", "1000")
    leaf = bed.cgroup("a")
    wait_until(lambda: len((leaf / "cgroup.procs").read_text().split()) == 4, "four processes")
    bed.end("a")
    assert left is not None
    assert left.wait() == -9
    assert not leaf.exists()
    assert other is not None
    assert other.poll() is None


def test_nothing_is_left_of_many_tasks_and_their_container(bed: TaskBed) -> None:
    before = cgroups()
    descriptors = len(os.listdir("/proc/self/fd"))
    box = bed.start()
    for number in range(60):
        bed.task(f"t{number}")
        if number % 2:
            bed.end(f"t{number}")
    bed.run("t0", "sleep", "1000")
    assert len(cgroups() - before) == 3 + 30
    bed.cleanup(box)
    assert cgroups() == before
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the socket to the zygote
    assert bed.isolation.cleanup(box.container_id)


def test_processes_that_hang_in_the_kernel_are_named_and_the_rest_goes_on(bed: TaskBed) -> None:
    """A writer to a file system that was frozen is in uninterruptible sleep."""
    disk = os.environ.get("OFFERD_GUEST_DISK")
    if not disk:
        pytest.skip("freezing a file system of this host would hang it, too; runs in a guest")
    bed.task("stuck")
    other = bed.task("other", "sleep", "1000")
    assert bed.box is not None
    container_id = bed.box.container_id
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        stuck = bed.run("stuck", "dd", "if=/dev/zero", f"of={disk}/frozen", "bs=1M", "count=1", "status=none")
        wait_until(
            lambda: "percpu" in Path(f"/proc/{stuck.pid}/wchan").read_text(), "it waits for the file system"
        )
        assert bed.isolation.kill_task(container_id, TaskID("stuck"))
        assert not bed.isolation.cleanup_task(container_id, TaskID("stuck"))
        assert f"process {stuck.pid} (dd) in uninterruptible sleep (D)" in bed.isolation.unkillable(
            container_id
        )
        assert bed.cgroup("stuck").exists()
        assert other is not None
        assert other.poll() is None
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)
    bed.end("stuck")
    assert stuck.wait() == -9
    Path(disk, "frozen").unlink(missing_ok=True)


# -- which cgroup -------------------------------------------------------------------------------------------------------


def in_cgroup(path: Path, code: str, **environment: str) -> str:
    """What a Python that was born in this cgroup prints."""
    command = ["sh", "-c", f'echo $$ > {path}/cgroup.procs && exec "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


USE_IT = """
import sys, tempfile
from pathlib import Path
from offerd.ids import ContainerID, FrameworkID, ExecutorID
from offerd.messages import ExecutorInfo
from offerd_isolation.base import ContainerSpec
from offerd_isolation.cgroups.module import CgroupsIsolation
# here
with tempfile.TemporaryDirectory() as work_dir:
    module = CgroupsIsolation(Path(work_dir))
    executor = ExecutorInfo(ExecutorID("e"))
    launch = module.prepare(ContainerSpec(ContainerID("c"), FrameworkID("f"), executor, Path(work_dir)))
    print(launch.cgroup, Path("/proc/self/cgroup").read_text().strip(), sep="\\n")
    assert module.cleanup(ContainerID("c"))
    module.close()
"""


@pytest.fixture
def delegated() -> Iterator[Path]:
    (ROOT / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    path = ROOT / "delegated.test"
    path.mkdir()
    yield path
    for each in sorted(path.glob("**/"), reverse=True):
        each.rmdir()


def test_a_delegated_cgroup_is_divided_after_the_slave_has_moved_to_a_leaf(delegated: Path) -> None:
    os.setxattr(delegated, "trusted.delegate", b"1")
    made, own = in_cgroup(delegated, USE_IT).splitlines()
    assert made.startswith(f"{delegated}/offerd.slice/")
    assert own == "0::/delegated.test/offerd.daemon"
    # The next one is started there, or moves there.
    assert in_cgroup(delegated / "offerd.daemon", USE_IT).splitlines()[0].startswith(str(delegated))


def test_a_cgroup_named_in_the_environment_is_used(delegated: Path) -> None:
    made, own = in_cgroup(ROOT, USE_IT, OFFERD_CGROUP=str(delegated)).splitlines()
    assert made.startswith(f"{delegated}/offerd.slice/")
    assert own == "0::/"


def test_a_user_to_whom_a_cgroup_was_delegated_can_use_it(delegated: Path) -> None:
    """As in the scope of `systemd-run --user --scope -p Delegate=yes`."""
    for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(delegated / name, 65534, 65534)
    # Not before the imports: the user may not read where this Python lies.
    drop = "import os; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)"
    code = USE_IT.replace("# here", drop)
    made, own = in_cgroup(delegated, code, TMPDIR="/dev/shm").splitlines()
    assert made.startswith(f"{delegated}/offerd.slice/")
    assert own == "0::/delegated.test/offerd.daemon"


def test_two_slaves_with_options_of_their_own_share_the_slice(bed: TaskBed, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with task_bed(tmp_path / "second", IsolationOptions(cpuset=frozenset({0}))) as second:
        bed.task("a", "sleep", "1000")
        second.box = second.launch("forever", container_id="elsewhere")
        assert (second.cgroup() / "cpuset.cpus").read_text() == "0\n"
        assert (bed.cgroup() / "cpuset.cpus").read_text() == "\n"
        second.cleanup(second.box)
        assert bed.cgroup("a").exists()
