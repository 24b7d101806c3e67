"""Images pulled by a real engine from a registry on this host: progress, policies, and failures."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
from msgspec.structs import replace

from helpers import docker_engine
from helpers.cli import begin, offerd, wait_until
from helpers.docker_engine import SMALL, DockerEngine
from helpers.docker_images import busybox_image
from helpers.image_registry import PIECES, ImageRegistry, layer_of_noise, serving
from helpers.recorder import COMMAND, Recorder
from offerd.ids import ExecutorID
from offerd.messages import ExecutorInfo, Reason, TaskState
from offerd_cli.local_cluster import LocalCluster

pytestmark = pytest.mark.docker
NOISE_BYTES = 3_000_000


@pytest.fixture
def registry() -> ImageRegistry:
    """One image of two layers, new to the engine."""
    layers = [busybox_image(), layer_of_noise("noise", NOISE_BYTES)]
    return ImageRegistry(layers, {"PATH": "/bin", "FROM": "registry"})


@pytest.fixture
def image(registry: ImageRegistry, engine: DockerEngine) -> Iterator[str]:
    """The image's name, while it is served."""
    with serving(registry) as address:
        name = f"{address}/made/slowly:1"
        try:
            yield name
        finally:
            with engine.api() as api:
                if any(name in each.tags for each in api.images.list()):
                    api.images.remove(name, force=True)


def slave(*more: str) -> LocalCluster:
    options = ("--image", SMALL, "--images", "*", *more)
    return LocalCluster(1, cpus="4", mem="1G", isolation="docker", slave_options=options)


def test_progress_of_a_long_pull_is_reported_to_the_framework(registry: ImageRegistry, image: str) -> None:
    """A pull may take longer than an executor's registration, while it makes progress."""
    executor = replace(COMMAND, image=image)
    with (
        slave("--executor-registration-timeout", "3s") as cluster,
        Recorder(cluster.address, executors=(executor,)) as framework,
    ):
        framework.run("one", "test $FROM = registry && test -s /noise")

        def said() -> list[str]:
            found = framework.statuses.get("one", [])
            return [each.message for each in found if each.reason == Reason.CONTAINER_PREPARING]

        def heard(number: int) -> bool:
            return len(said()) >= number

        for number in range(1, 6):
            registry.may_send.release(2)
            wait_until(partial(heard, number), f"word {number} of the pull")
        registry.may_send.release(4 * PIECES)
        assert framework.wait("one", TaskState.FINISHED)
        states = framework.states("one")
        assert states[-2:] == [TaskState.RUNNING, TaskState.FINISHED]
        assert set(states[:-2]) == {TaskState.STAGING}
    # The total is shown once both layers have begun. The registry decides which layer goes on.
    pattern = r"pulling 127\.0\.0\.1:\d+/made/slowly:1: (\d) of 2 layers, (\d+\.\d)(?: of \d+\.\d)? MB"
    found = [re.fullmatch(pattern, text) for text in said()]
    done = [float(each[2]) for each in found if each is not None]
    assert len(done) >= 2, said()
    assert done == sorted(done), said()
    assert done[0] < done[-1] <= 4.5, said()


def test_run_says_once_that_it_waits_for_a_pull(registry: ImageRegistry, image: str) -> None:
    with slave() as cluster:
        running = begin(cluster, "run", "--image", image, "--", "sh", "-c", "echo $FROM")
        assert running.stderr is not None
        registry.may_send.release(8)
        first = running.stderr.readline().decode()
        assert re.fullmatch(r"offerd run: waiting: pulling 127\.0\.0\.1:\d+/made/slowly:1.*\n", first)
        registry.may_send.release(4 * PIECES)
        stdout, stderr = running.communicate(timeout=30)
    assert (stdout, stderr, running.returncode) == (b"registry\n", b"", 0)


def test_a_present_image_is_pulled_again_only_if_always(registry: ImageRegistry, image: str) -> None:
    registry.is_slow = False
    with slave() as cluster:

        def manifests_for(policy: str) -> int:
            before = registry.requests.count("manifests")
            done = offerd(cluster, "run", "--image", image, "--pull", policy, "--", "test", "-s", "/noise")
            assert (done.returncode, done.stderr) == (0, b"")
            return registry.requests.count("manifests") - before

        assert manifests_for("if-absent") > 0
        assert manifests_for("if-absent") == 0
        assert manifests_for("never") == 0
        assert manifests_for("always") > 0


def test_a_layer_that_breaks_off_again_and_again_fails_the_task_with_the_reason(
    registry: ImageRegistry, image: str
) -> None:
    registry.is_slow, registry.is_broken = False, True
    with slave() as cluster:
        done = offerd(cluster, "run", "--image", image, "--", "true", timeout_s=120)
        assert done.returncode != 0
        assert f"image {image} cannot be had".encode() in done.stderr, done.stderr
        registry.is_broken = False
        assert offerd(cluster, "run", "--image", image, "--", "true").returncode == 0


def test_a_task_that_waits_for_a_pull_can_be_killed(registry: ImageRegistry, image: str) -> None:
    executor = replace(COMMAND, image=image)
    with slave() as cluster, Recorder(cluster.address, executors=(executor,)) as framework:
        framework.run("one", "true")
        registry.may_send.release(4)
        framework.wait("one", TaskState.STAGING)
        framework.driver.kill_task(framework.statuses["one"][0].task_id)
        assert framework.wait_end("one").reason == Reason.KILLED_BY_FRAMEWORK
        registry.may_send.release(4 * PIECES)


def test_an_engine_that_is_killed_during_a_pull_fails_the_task_with_the_reason(
    registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with docker_engine.engine() as own, serving(registry) as address:
        monkeypatch.setenv("DOCKER_HOST", own.address)
        executor = replace(COMMAND, image=f"{address}/made/slowly:1")
        with slave() as cluster, Recorder(cluster.address, executors=(executor,)) as framework:
            framework.run("one", "true")
            registry.may_send.release(4)
            framework.wait("one", TaskState.STAGING)
            own.stop(signal.SIGKILL)
            ended = framework.wait_end("one")
        assert (ended.state, ended.reason) == (TaskState.FAILED, Reason.EXECUTOR_NOT_LAUNCHED)
        assert "no Docker engine answers" in ended.message


def test_a_present_image_starts_during_silent_pulls_and_waiting_pulls_do_not_fail(
    registry: ImageRegistry, image: str
) -> None:
    """They wait for longer than an executor may take to register."""
    waiting = [ExecutorInfo(ExecutorID(f"e{n}"), module=COMMAND.module, image=image) for n in range(6)]
    with (
        slave("--executor-registration-timeout", "2s") as cluster,
        Recorder(cluster.address, executors=(COMMAND, *waiting)) as framework,
    ):
        for each in waiting:
            framework.run(each.executor_id, "true", executor_id=each.executor_id)
        wait_until(lambda: "blobs" in registry.requests, "the pulls to begin")
        started = time.monotonic()
        framework.run("here", "sleep 3")
        assert framework.wait_end("here").state is TaskState.FINISHED
        assert time.monotonic() - started > 3
        assert all(framework.states(each.executor_id)[-1:] in ([], [TaskState.STAGING]) for each in waiting)
        registry.is_slow = False
        registry.may_send.release(4 * PIECES)
        for each in waiting:
            assert framework.wait_end(each.executor_id).state is TaskState.FINISHED


def test_a_slave_ends_soon_though_a_pull_is_silent(registry: ImageRegistry, image: str) -> None:
    executor = replace(COMMAND, image=image)
    with slave() as cluster, Recorder(cluster.address, executors=(executor,)) as framework:
        framework.run("one", "true")
        wait_until(lambda: "blobs" in registry.requests, "the pull to begin")
        started = time.monotonic()
        cluster.kill_slave(0, signal.SIGTERM)
        assert time.monotonic() - started < 10
        assert framework.wait_end("one").state is TaskState.KILLED
