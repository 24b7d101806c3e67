"""`offerd run --image` with a real engine: its output, and what a task in a container can do."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.cli import begin, listing, offerd, wait_until
from helpers.docker_engine import SMALL, DockerEngine
from helpers.docker_sweep import mounts, processes
from offerd_cli import doctor
from offerd_cli.local_cluster import LocalCluster
from offerd_isolation.mounts import is_harmless

pytestmark = pytest.mark.docker

ACCESS_LIST = "system.posix_acl_access"
IN_A_ROW = int(os.environ.get("OFFERD_CONTAINERS", "10"))


@pytest.fixture(scope="module")
def cluster(shared_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One slave whose tasks run in the small image unless they name another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", shared_engine.address)
        data_dir = tmp_path_factory.mktemp("elsewhere")
        owner = f"@{pwd.getpwuid(os.geteuid()).pw_name}"
        (data_dir / owner / "set").mkdir(parents=True)
        (data_dir / owner / "set" / "file").write_text("placed here\n")
        limits = ("--images", "nobody/*,localhost:1/*", "--pids-max", "64", "--disk-per-task", "8M")
        options = ("--image", SMALL, "--pull", "never", "--data-dir", str(data_dir), *limits)
        with LocalCluster(1, cpus="4", mem="2G", isolation="docker", slave_options=options) as running:
            yield running


def test_a_command_runs_in_the_image_it_names(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--image", SMALL, "--", "sh", "-c", "ls /; echo $MADE_BY; echo oops >&2")
    assert done.stderr == b"oops\n"
    assert done.returncode == 0
    words = done.stdout.decode().split()
    assert words[-1] == "us", "the image's environment"
    assert "bin" in words
    assert not {"home", "usr", "root"} & set(words), "the host's root"
    each = offerd(
        cluster,
        "map",
        "-k",
        "--image",
        SMALL,
        "-e",
        "A=b",
        "--",
        "sh",
        "-c",
        "echo $MADE_BY $A {}",
        ":::",
        "1",
        "2",
    )
    assert (each.returncode, each.stdout) == (0, b"us b 1\nus b 2\n")


def test_without_an_image_it_is_the_slaves_default(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "sh", "-c", "test ! -e /usr && exit 7")
    assert done.returncode == 7


def test_a_program_that_the_image_lacks_cannot_be_started(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--image", SMALL, "--", "python3", "-V")
    assert done.returncode == 127
    assert b"python3" in done.stderr


def test_a_missing_image_is_a_failure_with_a_reason(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--image", "nobody/has-this:1", "--", "true")
    assert done.returncode != 0
    assert b"image nobody/has-this:1 is not on this slave" in done.stderr
    done = offerd(cluster, "run", "--image", "localhost:1/none:1", "--pull", "if-absent", "--", "true")
    assert done.returncode != 0
    assert b"image localhost:1/none:1 cannot be had" in done.stderr


def test_an_image_that_is_not_allowed_is_refused_with_the_option_that_allows_it(
    cluster: LocalCluster,
) -> None:
    done = offerd(cluster, "run", "--image", "somebody/else:1", "--pull", "if-absent", "--", "true")
    assert done.returncode != 0
    assert b"image somebody/else:1 is not allowed on this slave" in done.stderr
    assert b"--images" in done.stderr
    same = offerd(cluster, "run", "--image", f"docker.io/{SMALL}", "--", "true")
    assert same.returncode == 0, "the slave's own image by its full name"


def test_a_task_has_no_network_and_cannot_reach_services_of_the_host(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "sh", "-c", "ls /sys/class/net; cat /proc/net/route")
    assert done.stdout.decode().split()[0] == "lo"
    assert len(done.stdout.splitlines()) == 2, "no other device, and a table of routes without a route"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        reached = offerd(cluster, "run", "--", "nc", "-w", "2", "127.0.0.1", port)
        assert reached.returncode != 0
        assert b"Connection refused" in reached.stderr, "from the container's own loopback"


def run_as_nobody(program: Path) -> str | None:
    """The effective user of the program when user nobody runs it; None if nobody may not run it."""
    words = [str(program), "-u"]
    try:
        done = subprocess.run(
            words, capture_output=True, user=65534, group=65534, extra_groups=[], check=True, cwd="/"
        )
    except PermissionError:
        return None
    return done.stdout.decode().strip()


def test_a_setuid_file_of_a_task_has_no_effect_on_the_host(cluster: LocalCluster) -> None:
    """The task makes a setuid copy of the shell in a sandbox that it opens for all."""
    script = "cp /bin/busybox id; chmod 4755 id; chmod 777 . .. ../..; pwd; exec sleep 600.5"
    running = begin(cluster, "run", "--user", "root", "--", "sh", "-c", script)
    try:
        assert running.stdout is not None
        sandbox = Path(running.stdout.readline().decode().strip())
        program = sandbox / "id"
        assert program.stat().st_mode & 0o4777 == 0o4755
        assert run_as_nobody(program) is None, "the container's directory lets nobody else through"
        container = sandbox.parents[2]
        if ACCESS_LIST in os.listxattr(container):
            os.removexattr(container, ACCESS_LIST)
        container.chmod(0o711)
        assert run_as_nobody(program) == "65534", "and even then the sandbox is mounted nosuid"
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    if not is_harmless(container.parent):
        wait_until(lambda: not is_harmless(sandbox), "the sandbox unmounted")


def test_a_task_has_no_capabilities_and_gets_none(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "grep", "-E", "^(Cap|NoNewPrivs|Uid)", "/proc/self/status")
    lines = dict(line.split(":\t", 1) for line in done.stdout.decode().splitlines())
    assert {name: int(lines[name], 16) for name in lines if name.startswith("Cap")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert lines["NoNewPrivs"] == "1"
    assert offerd(cluster, "run", "--", "mount", "-t", "tmpfs", "none", "/tmp").returncode != 0


def test_a_task_cannot_make_itself_root_of_a_namespace(cluster: LocalCluster) -> None:
    """There it would have all capabilities again."""
    done = offerd(cluster, "run", "--", "unshare", "-U", "-r", "true")
    assert done.returncode != 0
    assert b"Operation not permitted" in done.stderr
    filtered = offerd(cluster, "run", "--", "grep", "Seccomp:", "/proc/self/status")
    assert filtered.stdout.split() == [b"Seccomp:", b"2"]


def test_a_task_sees_only_its_container(cluster: LocalCluster) -> None:
    script = "ls /proc | grep -c '^[0-9]'; readlink /proc/1/exe; cat /proc/$PPID/environ /proc/1/environ"
    done = offerd(cluster, "run", "--", "sh", "-c", script)
    assert int(done.stdout.split()[0]) < 10
    assert b"OFFERD_TOKEN" not in done.stdout
    names = offerd(cluster, "run", "--", "sh", "-c", "readlink /proc/$PPID/exe")
    assert names.returncode != 0, "the executor's program is a file of the host"


def test_a_task_can_read_the_slaves_data_directory(cluster: LocalCluster) -> None:
    script = "cat $OFFERD_DATA_DIR/set/file; ! touch $OFFERD_DATA_DIR/set/mine"
    done = offerd(cluster, "run", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"placed here\n"), done.stderr


def test_a_task_runs_as_the_user_it_names(cluster: LocalCluster) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    done = offerd(cluster, "run", "--user", "nobody", "--", "sh", "-c", "id -u; touch here; ls -n here")
    words = done.stdout.decode().split()
    assert words[0] == str(uid), done.stderr
    assert words[3] == str(uid)


def test_a_task_over_its_memory_is_killed_for_it(cluster: LocalCluster) -> None:
    hog = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}"
    done = offerd(cluster, "run", "--mem", "64M", "--", "sh", "-c", hog)
    assert done.returncode != 0
    assert b"of memory" in done.stderr, done


def test_a_task_that_declares_no_memory_is_limited_too(
    cluster: LocalCluster, shared_engine: DockerEngine
) -> None:
    running = begin(cluster, "run", "--mem", "0M", "--", "sh", "-c", "echo here; exec sleep 600.25")
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"here\n"
        with shared_engine.api() as api:
            (memory,) = [each.attrs["HostConfig"]["Memory"] >> 20 for each in api.containers.list()]
        assert memory == 256 + 64
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)


def test_files_outside_of_the_sandbox_count_for_the_container(cluster: LocalCluster) -> None:
    fill = "head -c 64000000 /dev/zero > /large; exec sleep 600"
    done = offerd(cluster, "run", "--user", "root", "--", "sh", "-c", fill)
    assert done.returncode == 1
    assert b"failed, LIMIT_EXCEEDED: the files of its executor and tasks take more of the disk" in done.stderr


def test_an_exit_status_of_137_alone_is_not_reported_as_lack_of_memory(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "sh", "-c", "exit 137")
    assert done.returncode == 137
    assert b"memory" not in done.stderr


def test_a_fork_bomb_ends_with_its_time_limit(cluster: LocalCluster, shared_engine: DockerEngine) -> None:
    # In another shell, as a shell that cannot fork ends.
    bomb = "(b() { b | b & }; b) & exec sleep 60"
    done = offerd(cluster, "run", "--timeout", "1s", "--", "sh", "-c", bomb)
    assert done.returncode == 124
    wait_until(lambda: not shared_engine.containers(), "the container gone")
    assert offerd(cluster, "run", "--", "true").returncode == 0


def test_limits_grow_and_shrink_with_the_tasks(cluster: LocalCluster, shared_engine: DockerEngine) -> None:
    one = begin(cluster, "run", "-n", "2", "--cpus", "0.5", "--mem", "128M", "--", "sleep", "30.125")

    def memory() -> list[int]:
        with shared_engine.api() as api:
            return [each.attrs["HostConfig"]["Memory"] >> 20 for each in api.containers.list()]

    try:
        wait_until(lambda: memory() == [2 * 128 + 64], "the limit of two tasks, as the engine knows it")
    finally:
        one.send_signal(signal.SIGINT)
        one.communicate(timeout=30)


def test_ctrl_c_ends_the_task_and_its_container(cluster: LocalCluster, shared_engine: DockerEngine) -> None:
    running = begin(cluster, "run", "--", "sh", "-c", "echo ready; sleep 600")
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    assert len(shared_engine.containers()) == 1
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    wait_until(lambda: not shared_engine.containers(), "the container gone")


def test_doctor_says_what_engine_there_is(shared_engine: DockerEngine) -> None:
    with shared_engine.api() as api:
        version = api.version()["Version"]
    found = doctor.check_docker(shared_engine.address)
    assert found.ok
    assert re.fullmatch(
        rf"engine {re.escape(version)} at {shared_engine.address}, runc [0-9].*, cgroup v[12] by \w+, without live-restore",
        found.found,
    )
    assert not doctor.check_docker(f"{shared_engine.address}.none").ok


@pytest.mark.timeout(120 + 2 * IN_A_ROW)
def test_containers_in_a_row_leave_nothing(cluster: LocalCluster, shared_engine: DockerEngine) -> None:
    """OFFERD_CONTAINERS=200 is for `make test-nightly`."""
    daemon = psutil.Process(cluster.slaves[0].pid)

    def traces() -> dict[str, object]:
        """Everything that must not grow with the number of containers."""
        cgroups = Path("/sys/fs/cgroup").glob(f"{shared_engine.root.name}/*")
        v1 = Path("/sys/fs/cgroup").glob(f"*/{shared_engine.root.name}/*")
        return {
            "descriptors": daemon.num_fds(),
            "threads": daemon.num_threads(),
            "children": len(daemon.children(recursive=True)),
            "engine's processes": len(processes(shared_engine.root)),
            "mounts": mounts(shared_engine.root),
            "cgroups": sorted(str(path) for path in (*cgroups, *v1) if path.is_dir()),
            "containers": shared_engine.containers(),
        }

    def sandboxes() -> dict[str, int]:
        """How many files and folders are kept of each ended container."""
        work_dir = cluster.slaves[0].work_dir
        assert work_dir is not None
        found = (work_dir / "containers").iterdir()
        return {path.name: sum(1 for _ in path.rglob("*")) for path in found}

    def some(number: int) -> None:
        for _ in range(number):
            assert offerd(cluster, "run", "--", "true").returncode == 0
        wait_until(lambda: not shared_engine.containers(), "all gone")

    others = set(sandboxes())
    some(10)
    first = {name: size for name, size in sandboxes().items() if name not in others}
    assert len(first) == 10
    before, rss_bytes = traces(), daemon.memory_info().rss
    some(IN_A_ROW)
    wait_until(lambda: traces() == before, f"as before: {before}")
    assert daemon.memory_info().rss - rss_bytes < 4 << 20
    later = {name: size for name, size in sandboxes().items() if name not in others | set(first)}
    assert len(later) == IN_A_ROW, "one sandbox each, until it is old"
    assert set(later.values()) == set(first.values()), "of the same few files"
    with shared_engine.api() as api:
        assert api.volumes.list() == []
    assert listing(cluster, "tasks")["tasks"] == []
