"""CPython's own tests of executors, made to test `ClusterExecutor` by subclassing: run with `python -m unittest`.

What differs stands here as an override, or as None where a test is of the insides of CPython's own pools; what users should
know of it, in docs/frameworks.md. The tests themselves are CPython's, from where this Python or Debian has them. They need a
cluster, named by the environment.
"""

# What CPython's tests are made of is known only when they are here, and they are unittest's.
# mypy: disable-error-code="misc,name-defined"
# ruff: noqa: PT009, PT027

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from helpers.cpython_suite import load
from offerd.cluster_executor import BrokenClusterExecutor, ClusterExecutor, ClusterFuture
from offerd.python_calls.calls import RemoteTraceback
from offerd.task_errors import TaskError

cpython = load()


class Pool(ClusterExecutor):
    """As these tests make a pool: by the number of its workers."""

    def __init__(self, max_workers: int | None = None, mp_context: object = None, **more: Any) -> None:
        super().__init__(max_workers=max_workers, cpus="0.01", mem="1M", timeout=30, **more)


class ClusterMixin(cpython.ExecutorMixin):
    executor_type = Pool

    def setUp(self) -> None:
        super().setUp()
        if not self.executor_kwargs:
            self.executor.submit(id, 0).result()  # what is timed is not the start of processes on a slave

    def get_context(self) -> None:
        """Of processes: ours are the slaves'."""


class TestWait(ClusterMixin, cpython.WaitTests, cpython.BaseTestCase):
    pass


class TestAsCompleted(ClusterMixin, cpython.AsCompletedTests, cpython.BaseTestCase):
    pass


class TestInitializer(ClusterMixin, cpython.InitializerMixin, cpython.BaseTestCase):
    pass


class TestFailingInitializer(ClusterMixin, cpython.FailingInitializerMixin, cpython.BaseTestCase):
    def test_initializer(self) -> None:
        """What it raised is the cause of each future's error; it is not logged where it happened, which is another host."""
        future = self.executor.submit(pow, 2, 8)
        with (
            self.assertLogs("offerd.cluster_executor", "CRITICAL"),
            self.assertRaises(BrokenExecutor) as caught,
        ):
            future.result()
        self.assertIsInstance(caught.exception, BrokenClusterExecutor)
        self.assertIn("error in initializer", str(caught.exception.__cause__))
        with self.assertRaises(BrokenExecutor):
            self.executor.submit(pow, 2, 8)


class TestProcessPool(ClusterMixin, cpython.ProcessPoolExecutorTest, cpython.BaseTestCase):
    # Of processes of this host, and of a pool that counts them:
    test_max_workers_too_large = None
    test_ressources_gced_in_workers = None
    test_saturation = None
    test_idle_process_reuse_one = None
    test_idle_process_reuse_multiple = None
    test_max_tasks_per_child = None
    test_max_tasks_per_child_defaults_to_spawn_context = None
    test_max_tasks_early_shutdown = None
    test_python_finalization_error = None

    def test_killed_child(self) -> None:
        """A worker that dies costs the call that it was in, and no other."""
        future = self.executor.submit(cpython._crash)
        with self.assertRaises(TaskError):
            future.result()
        self.assertEqual(self.executor.submit(pow, 2, 8).result(), 256)

    def test_traceback(self) -> None:
        """The cause is another class than a ProcessPoolExecutor's; of a function that travels by value, the lines stay here."""
        error = self.executor.submit(cpython.ProcessPoolExecutorTest._test_traceback).exception()
        self.assertEqual((type(error), error.args), (RuntimeError, (123,)))
        self.assertIsInstance(error.__cause__, RemoteTraceback)
        self.assertIn("in _test_traceback\nRuntimeError: 123", str(error.__cause__))


class TestDeadlock(ClusterMixin, cpython.ExecutorDeadlockTest, cpython.BaseTestCase):
    """One call that crashes costs no other: nothing is broken by it."""

    test_crash_big_data = None  # of the pipes between processes of this host

    OTHERWISE: dict[str, type[BaseException]] = {
        # What unpickling raises on the worker is that call's own error, `SystemExit` too.
        "test_exit_at_task_unpickle": SystemExit,
        "test_error_at_task_unpickle": pickle.UnpicklingError,
        # What it raises here, too.
        "test_error_during_result_unpickle_in_result_handler": RuntimeError,
        "test_exit_during_result_unpickle_in_result_handler": RuntimeError,
    }

    def _check_crash(
        self, error: type[BaseException], func: Callable[..., Any], *args: Any, **more: bool
    ) -> None:
        expected = self.OTHERWISE.get(
            self._testMethodName, TaskError if issubclass(error, BrokenExecutor) else error
        )
        with self.assertRaises(expected):
            self.executor.submit(func, *args).result(timeout=self.TIMEOUT)
        self.assertEqual(self.executor.submit(pow, 2, 8).result(), 256)

    def test_shutdown_deadlock(self) -> None:
        future = self.executor.submit(cpython._crash, delay=0.1)
        self.executor.shutdown(wait=True)
        with self.assertRaises(TaskError):
            future.result()

    def test_shutdown_deadlock_pickle(self) -> None:
        """Arguments are pickled by `submit`, which raises what that raises."""
        with self.assertRaises(pickle.PicklingError):
            self.executor.submit(id, cpython.ErrorAtPickle())
        self.executor.shutdown(wait=False)


SCRIPT = """
import sys, time
from pathlib import Path
from helpers.cpython_executors import Pool

def write_late(path):
    time.sleep(0.5)
    Path(path).write_text("apple")

"""


class TestShutdown(ClusterMixin, cpython.ExecutorShutdownTest, cpython.BaseTestCase):
    """What a call prints is in its executor's files on the slave: here it writes a file."""

    def run_script(self, script: str) -> tuple[str, str]:
        """What it has written in the end, and its standard error."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "said")
            words = [sys.executable, "-c", SCRIPT + script, str(path)]
            done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
            return (path.read_text() if path.exists() else ""), done.stderr

    def test_interpreter_shutdown(self) -> None:
        self.assertEqual(self.run_script("Pool(5).submit(write_late, sys.argv[1])"), ("apple", ""))

    def test_hang_gh83386(self) -> None:
        script = "pool = Pool(3); pool.submit(write_late, sys.argv[1]); pool.shutdown(wait=False)"
        self.assertEqual(self.run_script(script), ("apple", ""))

    def test_submit_after_interpreter_shutdown(self) -> None:
        script = (
            "import atexit; pool = Pool(5); atexit.register(lambda: pool.submit(write_late, sys.argv[1]))"
        )
        said, errors = self.run_script(script)
        self.assertEqual(said, "")
        self.assertIn("RuntimeError: cannot schedule new futures", errors)

    def test_cancel_futures(self) -> None:
        """A call that waits for an offer has not started: so one is waited for."""
        futures = [self.executor.submit(time.sleep, 0.1) for _ in range(50)]
        futures[0].result()
        self.executor.shutdown(cancel_futures=True)
        self.assertGreater(sum(future.cancelled() for future in futures), 20)
        for future in futures:
            self.assertTrue(future.cancelled() or future.exception() is None)

    def test_context_manager_shutdown(self) -> None:
        with self.executor_type(max_workers=5) as executor:
            self.assertEqual(list(executor.map(abs, range(-5, 5))), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])

    def test_del_shutdown(self) -> None:
        executor = self.executor_type(max_workers=5)
        results = executor.map(abs, range(-5, 5))
        del executor
        self.assertEqual(list(results), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])

    def test_shutdown_no_wait(self) -> None:
        executor = self.executor_type(max_workers=5)
        results = executor.map(abs, range(-5, 5))
        executor.shutdown(wait=False)
        self.assertEqual(list(results), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])


def _nobody(call: object) -> None:
    """Waits for it."""


class Future(ClusterFuture[Any]):
    """As these tests make one: of nothing."""

    def __init__(self) -> None:
        super().__init__(_nobody, None, "", b"")  # type: ignore[arg-type]


class TestFuture(cpython.FutureTests):
    def setUp(self) -> None:
        super().setUp()
        namespace = cpython.FutureTests.test_cancel.__globals__
        self.addCleanup(namespace.__setitem__, "Future", namespace["Future"])
        namespace["Future"] = Future

    def test_cancel(self) -> None:
        """Waiting for a cancelled call ends at once: no worker finds it cancelled later."""
        future = Future()
        self.assertTrue(future.cancel())
        self.assertEqual(future._state, "CANCELLED_AND_NOTIFIED")
        self.assertTrue(future.cancel())
        future = Future()
        future.set_result(5)
        self.assertFalse(future.cancel())
