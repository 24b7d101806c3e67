"""Results of calls: large ones are fetched, and only those of the executor that was given the call are used."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.fake_calls import SLAVE, WAIT_S, cluster, finished, first
from helpers.fake_master import InstantCluster, Outcome
from offerd.errors import ForgedResult, OfferdError
from offerd.files_client import FilesClient
from offerd.messages import Reason, TaskInfo, TaskState, TaskStatus
from offerd.python_calls import calls


def two(task: TaskInfo) -> TaskStatus:
    """The result of every call that ends well."""
    return finished(task, calls.Inline(calls.pickle_value(2)))


class Results(BaseHTTPRequestHandler):
    """A slave's file server with one file."""

    content = b""
    requested: list[str]

    def do_GET(self) -> None:
        type(self).requested.append(self.path)
        self.send_response(200 if self.content else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def file_server(content: bytes) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Results,), {"content": content, "requested": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", handler.requested  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def in_file(pickled: bytes) -> Outcome:
    return lambda task: finished(task, calls.file_result("results/t", pickled))


def test_a_result_larger_than_a_message_is_fetched_from_the_slave() -> None:
    def letters(number: int) -> str:
        return "x" * number

    pickled = calls.pickle_value("x" * 3_000_000)
    with (
        file_server(pickled) as (address, requested),
        cluster(in_file(pickled), files_address=address) as (_, executor),
    ):
        assert executor.submit(letters, 3_000_000).result(WAIT_S) == letters(3_000_000)
        assert requested == ["/containers/C-1/results/t"]


def test_a_result_whose_file_is_gone_is_computed_again() -> None:
    with file_server(b"") as (address, _):
        with cluster(first(1, in_file(b"12345"), two), files_address=address) as (_, executor):
            assert executor.submit(len, [1, 1]).result(WAIT_S) == 2
        with cluster(in_file(b"12345"), files_address=address, retries=1) as (fake, executor):
            with pytest.raises(OfferdError, match="no file results/t"):
                executor.submit(len, [1, 1]).result(WAIT_S)
            assert fake.launched == 2


def test_a_callback_of_a_large_result_that_exits_leaves_shutdown_its_end() -> None:
    heard: list[int] = []
    pickled = calls.pickle_value("x" * 400_000)
    with file_server(pickled) as (address, _):
        with cluster(in_file(pickled), files_address=address) as (_, executor):
            future = executor.submit(len, [])
            future.add_done_callback(lambda done: sys.exit(3))
            future.add_done_callback(lambda done: heard.append(len(done.result())))  # type: ignore[arg-type]
        assert heard == [400_000]


def test_an_unexpected_error_in_a_fetch_ends_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(FilesClient, "read", fail)
    with cluster(in_file(b"12345"), files_address="127.0.0.1:1") as (_, executor), pytest.raises(MemoryError):
        executor.submit(len, []).result(WAIT_S)


AT_EXIT = """
import sys
from offerd import ClusterExecutor
executor = ClusterExecutor(sys.argv[1])
executor.submit(len, []).add_done_callback(lambda done: print(len(done.result()), flush=True))
"""


def test_a_large_result_is_fetched_also_at_the_interpreters_exit() -> None:
    pickled = calls.pickle_value("x" * 400_000)
    with file_server(pickled) as (address, _):
        with InstantCluster(SLAVE, outcome=in_file(pickled), files_address=address) as fake:
            words = [sys.executable, "-c", AT_EXIT, fake.address]
            done = subprocess.run(words, check=True, timeout=30, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("400000\n", "")


ran: list[str] = []


class RunsCode:
    """Records that it was unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return ran.append, ("ran",)


@pytest.mark.parametrize("reason", ["", Reason.CALL_RAISED])
def test_a_result_from_another_executor_fails_the_call_and_runs_nothing(reason: str) -> None:
    pickled = pickle.dumps(RunsCode())
    result = calls.Raised(pickled, "") if reason else calls.Inline(pickled)
    state = TaskState.FAILED if reason else TaskState.FINISHED
    seen: list[bytes] = []

    def forge(task: TaskInfo) -> TaskStatus:
        """With the key of another call, and once without any."""
        seen.append(calls.unpack_call(task.data).key)
        key = seen[-2] if len(seen) > 1 else b""
        return TaskStatus(task.task_id, state, 1, reason, data=calls.pack_result(result, key))

    with cluster(first(3, forge, two), retries=9) as (fake, executor):
        for _ in range(3):
            with pytest.raises(ForgedResult, match="not made by"):
                executor.submit(len, [1, 1]).result(WAIT_S)
        assert (executor.forged_results, fake.launched, ran) == (3, 3, [])
        assert executor.submit(len, [1, 1]).result(WAIT_S) == 2


def test_a_file_that_holds_something_else_is_not_unpickled_and_the_call_is_tried_again() -> None:
    good, evil = calls.pickle_value("x" * 40), pickle.dumps(RunsCode())
    with file_server(evil.ljust(len(good), b".")[: len(good)]) as (address, _):
        with cluster(first(1, in_file(good), two), files_address=address) as (_, executor):
            assert executor.submit(len, [1, 1]).result(WAIT_S) == 2
        with cluster(in_file(good), files_address=address, retries=1) as (fake, executor):
            with pytest.raises(OfferdError, match="SHA-256"):
                executor.submit(len, [1, 1]).result(WAIT_S)
            assert fake.launched == 2
    assert ran == []
