"""Deaths while tasks run in containers: of the slave, the shim, dockerd, containerd; and an engine that hangs."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Iterator

import psutil
import pytest

from helpers import docker_engine
from helpers.cli import listing, processes_with, wait_until
from helpers.docker_engine import SMALL, DockerEngine
from helpers.recorder import COMMAND, Recorder, ended_once
from offerd.ids import ExecutorID
from offerd.messages import ExecutorInfo, Reason, TaskState
from offerd_cli.local_cluster import LocalCluster
from offerd_isolation.docker.group import Group
from offerd_linux import processes

pytestmark = pytest.mark.docker
RUNNING, FAILED = TaskState.RUNNING, TaskState.FAILED


@pytest.fixture(params=[True, False], ids=["live_restore", "no_live_restore"])
def own_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    """An engine that this test may kill."""
    with docker_engine.engine(live_restore=request.param) as made:
        monkeypatch.setenv("DOCKER_HOST", made.address)
        yield made


def slave(engine: DockerEngine, *more: str) -> LocalCluster:
    assert os.environ["DOCKER_HOST"] == engine.address
    options = ("--image", SMALL, "--pull", "never", "--images", "*", *more)
    return LocalCluster(1, cpus="4", mem="1G", isolation="docker", slave_options=options)


def unique() -> str:
    """A number of seconds that no other process sleeps for."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def run(framework: Recorder, name: str, command: str) -> None:
    framework.run(name, command, limit_s=None)
    framework.wait(name, RUNNING)


def test_containers_of_a_killed_slave_shim_or_unknown_origin(engine: DockerEngine) -> None:
    """A killed slave's container is adopted, a killed shim's is ended; an unknown one of this slave is removed, others stay."""
    duration = unique()
    with engine.api() as api:
        stranger = api.containers.run(SMALL, ["sleep", "600"], detach=True, network_mode="none")
    try:
        with slave(engine) as cluster, Recorder(cluster.address) as framework:
            run(framework, "stays", f"exec sleep {duration}")
            (pid,) = processes_with(duration)
            with engine.api() as api:
                labels = next(each for each in api.containers.list() if each.id != stranger.id).labels
            cluster.kill_slave(0)
            with engine.api() as api:
                lost = {**labels, "org.offerd.container": "left-over.1"}
                orphan = api.containers.create(SMALL, ["sleep", "600"], labels=lost, network_mode="none")
                orphan.rename(f"offerd-{labels['org.offerd.slave'][:12]}-left-over.1")
            cluster.restart_slave(0)
            cluster.wait_for_slaves(1)
            assert processes_with(duration) == [pid], "the same process goes on"
            assert framework.states("stays") == [RUNNING]
            wait_until(lambda: len(engine.containers()) == 2, "the orphan swept, and no other")
            shim = psutil.Process(pid)
            while not shim.cmdline()[0].startswith("offerd-shim"):
                shim = psutil.Process(shim.ppid())
            shim.kill()
            ended = framework.wait_end("stays")
            assert (ended.state, ended.reason) == (FAILED, Reason.SHIM_DIED)
            assert processes_with(duration) == []
            wait_until(lambda: len(engine.containers()) == 1, "the stranger's alone")
    finally:
        with engine.api() as api:
            api.containers.get(stranger.id).remove(force=True)


def test_the_engine_is_killed_and_comes_back(own_engine: DockerEngine) -> None:
    """While it is away tasks run on. When it is back, it ends them unless it has live-restore."""
    duration = unique()
    with slave(own_engine) as cluster, Recorder(cluster.address) as framework:
        run(framework, "stays", f"exec sleep {duration}")
        (pid,) = processes_with(duration)
        os.kill(own_engine.containerd_pid(), signal.SIGKILL)
        own_engine.stop(signal.SIGKILL)
        run(framework, "while_away", "echo a task needs no engine; sleep 0.1; exec sleep 600")
        assert processes_with(duration) == [pid]
        cluster.restart_slave(0)  # with no engine to ask
        framework.driver.kill_task(framework.statuses["while_away"][0].task_id)
        assert framework.wait_end("while_away").reason == Reason.KILLED_BY_FRAMEWORK
        own_engine.start()
        if own_engine.live_restore:
            assert processes_with(duration) == [pid]
            assert framework.states("stays") == [RUNNING]
            framework.driver.kill_task(framework.statuses["stays"][0].task_id)
            assert framework.wait_end("stays").reason == Reason.KILLED_BY_FRAMEWORK
        else:
            ended = framework.wait_end("stays")
            assert (ended.state, ended.exit_status) == (FAILED, -signal.SIGKILL)
        wait_until(lambda: processes_with(duration) == [], "the task gone")
    assert own_engine.answers()


def test_a_hung_engine_does_not_affect_running_tasks(engine: DockerEngine) -> None:
    """The engine is stopped, so that it accepts connections and answers none."""
    with slave(engine) as cluster, Recorder(cluster.address) as framework:
        run(framework, "one", "exec sleep 600")
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            run(framework, "two", "exec sleep 600")
            framework.driver.kill_task(framework.statuses["one"][0].task_id)
            assert framework.wait_end("one").reason == Reason.KILLED_BY_FRAMEWORK
            assert time.monotonic() - started < 10
            executor = next(each for each in processes.everyone() if each.pid == _executor(cluster))
            processes.kill(executor.pid, executor.start_ticks)
            assert framework.wait_end("two").reason == Reason.EXECUTOR_EXITED
        finally:
            os.kill(engine.pid, signal.SIGCONT)
    wait_until(lambda: not engine.containers(), "what it had been asked to remove")


def test_a_task_over_its_memory_says_limit_and_peak_while_the_engine_hangs_too(engine: DockerEngine) -> None:
    """The kernel counts kills, so no event of the engine is needed."""
    hog = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}"
    limit_bytes = (32 + 64) << 20  # the task's and the executor's
    with slave(engine) as cluster, Recorder(cluster.address) as framework:
        run(framework, "calm", "exec sleep 600")
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            framework.run("greedy", hog, mem="16M")
            ended = framework.wait_end("greedy")
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        assert ended.reason == Reason.LIMIT_EXCEEDED
        assert ended.limit == f"memory.max={limit_bytes}"
        assert ended.usage is not None
        assert 0.9 * limit_bytes <= ended.usage.peak_mem_bytes <= limit_bytes
        assert framework.states("calm") == [RUNNING]
        assert ended_once(framework, "greedy")


def test_a_task_over_its_memory_while_no_slave_runs_is_reported_so(engine: DockerEngine) -> None:
    hog = "until test -e go; do sleep 0.1; done; x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}"
    with slave(engine) as cluster, Recorder(cluster.address) as framework:
        framework.run("greedy", hog, mem="16M")
        framework.wait("greedy", RUNNING)
        work_dir = cluster.slaves[0].work_dir
        assert work_dir is not None
        (task,) = work_dir.glob("containers/*/sandbox/tasks/greedy")
        (container,) = _containers(engine)
        cluster.kill_slave(0)
        (task / "go").touch()
        wait_until(lambda: container.memory.kills() > 0, "the kernel's kill")
        cluster.restart_slave(0)
        ended = framework.wait_end("greedy")
        assert ended.reason == Reason.LIMIT_EXCEEDED
        framework.run("killed", "kill -9 $$")
        assert framework.wait_end("killed").reason != Reason.LIMIT_EXCEEDED


def _containers(engine: DockerEngine) -> list[Group]:
    with engine.api() as api:
        return [Group.of(each.attrs["State"]["Pid"]) for each in api.containers.list()]


def test_a_frozen_engine_does_not_change_listings_and_delays_new_containers(engine: DockerEngine) -> None:
    """Slave and tasks stay in all listings; new containers wait, and fail with a reason, or run when it wakes."""
    other = ExecutorInfo(ExecutorID("other"), module="offerd_executors.command")
    with slave(engine) as cluster, Recorder(cluster.address, executors=(COMMAND, other)) as framework:
        run(framework, "stays", "exec sleep 600")
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            framework.run("new", "true", executor_id=other.executor_id)
            wait_until(lambda: len(listing(cluster, "tasks")["tasks"]) == 2, "the new task accepted")
            states = {task["task_id"]: task["state"] for task in listing(cluster, "tasks")["tasks"]}
            assert states == {"stays": RUNNING.value, "new": TaskState.STAGING.value}
            assert [each["state"] for each in listing(cluster, "slaves")["slaves"]] == ["active"]
            assert framework.lost_slaves == []
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        assert framework.wait_end("new").state is TaskState.FINISHED
        assert framework.states("stays") == [RUNNING]
        framework.driver.kill_task(framework.statuses["stays"][0].task_id)
        framework.wait_end("stays")
        assert ended_once(framework, "stays", "new")
    wait_until(lambda: not engine.containers(), "what it had been asked to remove")


def test_an_engine_frozen_beyond_its_time_out_fails_only_new_containers(
    engine: DockerEngine,
) -> None:
    """They fail with a reason until it wakes; then new ones run, and remains of failed ones are removed."""
    others = [ExecutorInfo(ExecutorID(f"other{n}"), module="offerd_executors.command") for n in range(3)]
    with (
        slave(engine, "--engine-timeout", "1s") as cluster,
        Recorder(cluster.address, executors=(COMMAND, *others)) as framework,
    ):
        run(framework, "stays", "exec sleep 600")
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            for number in range(2):
                name = f"new{number}"
                framework.run(name, "true", executor_id=others[number].executor_id)
                ended = framework.wait_end(name)
                assert (ended.state, ended.reason) == (FAILED, Reason.EXECUTOR_NOT_LAUNCHED)
                assert re.search(r"Docker engine (.*not answer|answers at)", ended.message)
            run(framework, "beside", "exec sleep 600")
            assert framework.states("stays") == [RUNNING]
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        wait_until(lambda: len(engine.containers()) == 1, "what it made too late removed", 60)
        framework.run("after", "true", executor_id=others[2].executor_id)
        assert framework.wait_end("after").state is TaskState.FINISHED
        assert framework.states("stays") == framework.states("beside") == [RUNNING]
        assert ended_once(framework, "new0", "new1", "after")


def _executor(cluster: LocalCluster) -> int:
    daemon = psutil.Process(cluster.slaves[0].pid)
    found = [
        p for p in daemon.children(recursive=True) if p.cmdline()[:1] and "offerd-executor" in p.cmdline()[0]
    ]
    assert len(found) == 1
    return found[0].pid
