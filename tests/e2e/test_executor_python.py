"""The python executor as a process, driven by a fake slave: calls, results, exceptions, workers that die."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import cloudpickle
import pytest

from helpers.fake_slave import FakeSlave, end, is_alive, task
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import FrameworkMessage, Reason, TaskInfo, TaskState, TaskStatus
from offerd.python_calls import calls
from offerd.tasks.task_output import pack_taken

MODULE = "offerd_executors.python"

# The executor cannot import this module: functions defined here are sent by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[FakeSlave]:
    with FakeSlave(tmp_path / "sandbox", MODULE) as made:
        yield made


def call(task_id: str, function: Callable[..., object], *args: object, **kwargs: object) -> TaskInfo:
    return task(task_id, data=calls.pack_call(function, args, kwargs))


def outcome(slave: FakeSlave, status: TaskStatus) -> calls.Outcome:
    return calls.unpack_result(status.data, lambda file: (slave.sandbox / file.path).read_bytes())


def value(slave: FakeSlave, function: Callable[..., object], *args: object) -> object:
    """The value that a call returns."""
    status = slave.run(call(f"call-{len(slave.ended)}", function, *args))
    assert status.state is TaskState.FINISHED, status.message
    return outcome(slave, status).value


def wait_for_pid(slave: FakeSlave, name: str) -> int:
    """A process id that a call writes into a file of the sandbox."""
    path = slave.sandbox / name
    slave.wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"{name} is written")
    return int(path.read_text())


# -- functions that are called ---------------------------------------------------------------------------------------------


def double(x: int) -> int:
    return 2 * x


def inner(x: int) -> float:
    return 1 / x


def outer(x: int) -> float:
    return inner(x)


def die(how: int) -> None:
    if how > 0:
        os.kill(os.getpid(), how)
    os._exit(-how)


def write_and_sleep(name: str, ignore_term: bool = False) -> None:
    if ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(name).write_text(f"{os.getpid()}\n")
    time.sleep(600)


def start_orphan_and_sleep(name: str) -> None:
    """Start a grandchild in its own session."""
    os.system(f"setsid sh -c 'echo $$ >{name}; exec sleep 600' &")
    time.sleep(600)


def make_file(path: str) -> None:
    Path(path).touch()


def wait_for_file(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.002)
    return os.getpid()


def fork_and_return() -> int:
    own = os.getpid()
    if os.fork() == 0:
        print("the child", flush=False)
    return own


def say(text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)


def close_stream() -> None:
    os.close(4)


def close_requests() -> None:
    os.close(3)


def write_into_stream() -> None:
    os.write(4, b"\x05\x00\x00\x00bytes")


def write_and_return() -> None:
    os.write(4, b"\x05\x00\x00\x00bytes")
    time.sleep(0.05)


def write_later() -> None:
    """When the call is over and its worker idle."""
    threading.Timer(0.1, os.write, (4, b"\x05\x00\x00\x00bytes")).start()


def pool_of_processes(n: int) -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, range(-n, 0))


def threads(n: int) -> int:
    done: list[int] = []
    running = [threading.Thread(target=done.append, args=(k,)) for k in range(n)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return len(done)


def surroundings() -> dict[str, object]:
    return {
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "stdin": os.readlink("/proc/self/fd/0"),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "chld": signal.getsignal(signal.SIGCHLD),
    }


# -- Tests ------------------------------------------------------------------------------------------------------


def test_a_call_returns_its_value(slave: FakeSlave) -> None:
    assert value(slave, double, 21) == 42
    assert value(slave, lambda: [None, {"a": (1,)}]) == [None, {"a": (1,)}]
    assert value(slave, os.path.join, "a", "b") == "a/b"


def test_many_calls_all_come_back_with_their_own_values(slave: FakeSlave) -> None:
    ids = [slave.launch(call(f"t{n}", double, n)) for n in range(2000)]
    statuses = slave.wait_ended(ids)
    assert [outcome(slave, status).value for status in statuses] == [2 * n for n in range(2000)]
    numbers = [update.number for update in slave.updates]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert len(numbers) < 2500, "RUNNING of most calls should never have been sent"


def test_a_call_that_takes_long_is_reported_running(slave: FakeSlave) -> None:
    slave.launch(call("a", wait_for_file, "go"))
    slave.wait_until(lambda: TaskID("a") in slave.running, "a runs")
    (slave.sandbox / "go").touch()
    assert slave.wait_ended([TaskID("a")])[0].sequence == 2


def test_an_exception_comes_back_with_its_traceback(slave: FakeSlave) -> None:
    status = slave.run(call("a", outer, 0))
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.CALL_RAISED)
    assert status.message == "ZeroDivisionError: division by zero"
    error = outcome(slave, status).exception
    assert isinstance(error, ZeroDivisionError)
    assert "in inner" in str(error.__cause__)
    assert "answer_call" not in str(error.__cause__)


def raise_text(text: str) -> None:
    raise ValueError(text)


def test_an_exception_whose_text_is_no_utf_8_comes_back_and_costs_no_worker(slave: FakeSlave) -> None:
    status = slave.run(call("raise", raise_text, "caf\udce9"))
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.CALL_RAISED)
    assert status.message == "ValueError: caf\\udce9"
    assert str(outcome(slave, status).exception) == "caf\udce9"


def raise_what_leaves() -> None:
    def leave(self: object) -> NoReturn:
        sys.exit(3)

    raise type("Leaves", (Exception,), {"__reduce__": leave, "__str__": leave, "__repr__": leave})()


def test_an_exception_that_exits_when_it_is_pickled_or_shown_costs_no_worker(slave: FakeSlave) -> None:
    status = slave.run(call("leaves", raise_what_leaves))
    assert status.reason == Reason.CALL_RAISED
    assert isinstance(outcome(slave, status).exception, RuntimeError)


def test_sys_exit_in_a_call_is_an_exception_of_that_call(slave: FakeSlave) -> None:
    status = slave.run(call("a", sys.exit, 3))
    assert isinstance(outcome(slave, status).exception, SystemExit)
    assert value(slave, double, 1) == 2


def test_data_that_is_no_call_fails_that_task_only(slave: FakeSlave) -> None:
    for number, data in enumerate((b"", b"garbage", b"\x93\xc4\x01x\xc4\x01y\x80")):
        status = slave.run(task(f"bad{number}", data=data))
        assert (status.state, status.reason) == (TaskState.FAILED, Reason.CALL_RAISED)
    assert value(slave, double, 1) == 2


def test_a_value_that_cannot_be_pickled_fails_the_call(slave: FakeSlave) -> None:
    status = slave.run(call("a", threading.Lock))
    assert status.state is TaskState.FAILED
    assert "pickle" in status.message


def test_a_large_result_is_a_file_of_the_sandbox(slave: FakeSlave) -> None:
    for number, size in enumerate((calls.INLINE_RESULT_BYTES - 100, calls.INLINE_RESULT_BYTES, 5_000_000)):
        status = slave.run(call(f"t{number}", bytes, size))
        assert outcome(slave, status).value == bytes(size)
        assert len(status.data) < calls.INLINE_RESULT_BYTES + 100
    assert sorted(os.listdir(slave.sandbox / "results")) == ["t1", "t2"]
    assert (slave.sandbox / "results" / "t2").stat().st_mode & 0o777 == 0o600


def test_only_the_file_of_a_fetched_result_is_removed(slave: FakeSlave) -> None:
    for name in ("a", "b"):
        slave.run(call(name, bytes, 1_000_000))
    (slave.sandbox / "mine").touch()
    for data in (b"nonsense", pack_taken([TaskID("../mine"), TaskID("a"), TaskID("a"), TaskID("c")])):
        slave.send(FrameworkMessage(FrameworkID("F"), SlaveID("S"), ExecutorID("E"), data))
    slave.wait_until(lambda: os.listdir(slave.sandbox / "results") == ["b"], "the file to go")
    assert (slave.sandbox / "mine").exists()
    assert value(slave, abs, -1) == 1


def test_large_arguments_arrive(slave: FakeSlave) -> None:
    ids = [slave.launch(call(f"t{n}", len, b"x" * (700_000 + n))) for n in range(10)]
    assert [outcome(slave, s).value for s in slave.wait_ended(ids)] == [700_000 + n for n in range(10)]


@pytest.mark.parametrize(
    ("how", "exit_status", "words"),
    [
        (-7, 7, "exited with status 7"),
        (0, 0, "exited with status 0"),
        (signal.SIGSEGV, -11, "killed by SIGSEGV"),
    ],
)
def test_a_worker_that_dies_fails_its_call_and_is_replaced(
    slave: FakeSlave, how: int, exit_status: int, words: str
) -> None:
    for number in range(3):
        status = slave.run(call(f"t{number}", die, int(how)))
        assert (status.state, status.reason) == (TaskState.FAILED, Reason.WORKER_DIED)
        assert status.exit_status == exit_status
        assert words in status.message
    assert value(slave, double, 2) == 4


@pytest.mark.parametrize("spoil", [close_stream, write_into_stream, write_and_return])
def test_a_call_that_corrupts_its_workers_stream_costs_only_that_worker(
    slave: FakeSlave, spoil: Callable[[], None]
) -> None:
    status = slave.run(call("a", spoil))
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.WORKER_DIED)
    assert [value(slave, double, n) for n in range(10)] == [2 * n for n in range(10)]


def test_a_call_that_closes_its_workers_requests_costs_only_that_worker(slave: FakeSlave) -> None:
    assert slave.run(call("a", close_requests)).state is TaskState.FINISHED
    assert [value(slave, double, n) for n in range(10)] == [2 * n for n in range(10)]


def test_an_idle_worker_that_dies_or_writes_nonsense_is_replaced_and_fails_nothing(slave: FakeSlave) -> None:
    first = slave.children()
    for worker in first:
        os.kill(worker, signal.SIGKILL)
    slave.wait_until(lambda: not any(is_alive(worker) for worker in first), "the first workers are dead")
    assert [value(slave, double, n) for n in range(10)] == [2 * n for n in range(10)]
    before = set(slave.children())
    value(slave, write_later)
    slave.wait_until(lambda: not before <= set(slave.children()), "the babbler is replaced")
    assert [value(slave, double, n) for n in range(10)] == [2 * n for n in range(10)]


def test_a_killed_call_ends_with_its_worker(slave: FakeSlave) -> None:
    slave.launch(call("a", write_and_sleep, "pid"))
    pid = wait_for_pid(slave, "pid")
    slave.kill(TaskID("a"), 60.0)
    (status,) = slave.wait_ended([TaskID("a")])
    assert (status.state, status.reason, status.exit_status) == (TaskState.KILLED, "", -15)
    assert not is_alive(pid)
    assert value(slave, double, 2) == 4


def test_a_call_that_ignores_term_is_killed_after_the_grace(slave: FakeSlave) -> None:
    slave.launch(call("a", write_and_sleep, "pid", ignore_term=True))
    pid = wait_for_pid(slave, "pid")
    started = time.monotonic()
    slave.kill(TaskID("a"), 0.3)
    (status,) = slave.wait_ended([TaskID("a")])
    assert status.exit_status == -9
    assert 0.3 <= time.monotonic() - started < 5
    assert not is_alive(pid)


def test_a_kill_reaches_processes_that_the_call_has_started(slave: FakeSlave) -> None:
    slave.launch(call("a", start_orphan_and_sleep, "pid"))
    pid = wait_for_pid(slave, "pid")
    try:
        slave.kill(TaskID("a"), 60.0)
        slave.wait_ended([TaskID("a")])
        assert not is_alive(pid)
    finally:
        end(pid)


def test_a_call_killed_in_the_queue_is_never_made(slave: FakeSlave) -> None:
    ids = [slave.launch(call(f"t{n}", time.sleep, 0.001)) for n in range(300)]
    slave.launch(call("unwanted", make_file, "made"))
    slave.kill(TaskID("unwanted"))
    assert slave.wait_ended([TaskID("unwanted")])[0].state is TaskState.KILLED
    slave.wait_ended(ids)
    assert value(slave, double, 2) == 4
    assert not (slave.sandbox / "made").exists()


def test_the_pool_grows_while_calls_wait(slave: FakeSlave) -> None:
    ids = [slave.launch(call(f"t{n}", wait_for_file, "go")) for n in range(20)]
    slave.wait_until(lambda: len(slave.running) == 20, "all twenty run at once")
    (slave.sandbox / "go").touch()
    pids = {outcome(slave, status).value for status in slave.wait_ended(ids)}
    assert len(pids) == 20


def test_workers_above_those_at_the_start_end_when_idle(tmp_path: Path) -> None:
    slave = FakeSlave(tmp_path / "sandbox", MODULE)
    slave.arguments = [
        "-c",
        "from offerd_executors import python, worker_pool; worker_pool.IDLE_S = 0.4; python.main()",
    ]
    with slave:
        ids = [slave.launch(call(f"t{n}", wait_for_file, "go")) for n in range(12)]
        slave.wait_until(lambda: len(slave.running) == 12, "all twelve run at once")
        at_work = slave.children()
        (slave.sandbox / "go").touch()
        slave.wait_ended(ids)
        slave.wait_until(lambda: len(slave.children()) == min(2, os.cpu_count() or 1), "the pool shrinks")
        assert len(at_work) >= 12
        assert value(slave, double, 4) == 8


def test_a_workers_environment_is_clean(slave: FakeSlave) -> None:
    seen = value(slave, surroundings)
    assert isinstance(seen, dict)
    assert seen["cwd"] == str(slave.sandbox)
    assert seen["stdin"] == "/dev/null"
    assert seen["descriptors"] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # 3: requests, 4: answers, 5: the directory that was read
    assert seen["blocked"] == set()
    assert seen["chld"] is signal.SIG_DFL
    assert not {"OFFERD_TOKEN", "OFFERD_SLAVE_SOCKET"} & set(seen["environ"])


def test_output_of_calls_is_in_the_executors_files_before_their_end(slave: FakeSlave) -> None:
    slave.run(call("a", say, "hello"))
    assert (slave.sandbox / "stdout").read_text() == "hello\n"
    assert slave.complaints() == "HELLO\n"


def test_a_call_may_fork_start_threads_and_pools(slave: FakeSlave) -> None:
    pid = value(slave, fork_and_return)
    assert [value(slave, os.getpid) for _ in range(4)].count(pid) > 0
    assert value(slave, threads, 20) == 20
    assert value(slave, pool_of_processes, 4) == [4, 3, 2, 1]


def test_cpu_time_of_a_call_is_reported(slave: FakeSlave) -> None:
    status = slave.run(call("a", lambda: sum(range(3_000_000))))
    assert status.usage is not None
    assert status.usage.cpu_s > 0.01


def test_shutdown_ends_calls_and_queue_and_executor(slave: FakeSlave) -> None:
    slave.launch(call("a", write_and_sleep, "pid", ignore_term=True))
    pid = wait_for_pid(slave, "pid")
    workers = slave.children()
    queued = [slave.launch(call(f"q{n}", time.sleep, 600)) for n in range(5)]
    assert slave.shut_down(0.3) == 0
    assert {slave.ended[task_id].state for task_id in [TaskID("a"), *queued]} == {TaskState.KILLED}
    assert not any(is_alive(worker) for worker in [pid, *workers])


def test_workers_end_with_an_executor_that_is_killed(slave: FakeSlave) -> None:
    workers = slave.children()
    assert workers
    os.kill(slave.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "idle workers outlive the executor"
        time.sleep(0.01)


def test_calls_end_while_the_slave_is_away(slave: FakeSlave) -> None:
    slave.stores = False
    slave.launch(call("a", wait_for_file, "go"))
    slave.wait_running(TaskID("a"))
    slave.unbind()
    (slave.sandbox / "go").touch()
    time.sleep(0.1)
    slave.stores = True
    slave.bind()
    assert isinstance(outcome(slave, slave.wait_ended([TaskID("a")])[0]).value, int)


def test_five_hundred_calls_leave_nothing_behind(slave: FakeSlave) -> None:
    value(slave, double, 1)
    before = slave.descriptors(), len(slave.children())
    ids = [
        slave.launch(call(f"t{n}", die, -1) if n % 50 == 0 else call(f"t{n}", double, n)) for n in range(500)
    ]
    slave.wait_ended(ids)
    slave.wait_until(
        lambda: (slave.descriptors(), len(slave.children())) == before, "descriptors and workers"
    )
    assert slave.shut_down() == 0
    assert sorted(os.listdir(slave.sandbox)) == ["stderr", "stdout"]
    assert slave.complaints() == ""


# -- Calls sent ahead ---------------------------------------------------------------------------------------------------


def sign(ledger: str, name: str, nap_s: float = 0.0, dies: bool = False) -> str:
    """Write a line, then sleep or die; returns the name."""
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{name}\n".encode())
    os.close(fd)
    if dies:
        os._exit(3)
    time.sleep(nap_s)
    return name


def test_short_calls_do_not_wait_behind_a_long_one(slave: FakeSlave, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    value(slave, double, 1)
    names = [f"t{number}" for number in range(400)]
    for number, name in enumerate(names):
        slave.launch(call(name, sign, ledger, name, 3.0 if number == 200 else 0.0))
    slave.wait_until(lambda: len(slave.ended) >= 400, "all the short ones to end")
    assert TaskID("t200") not in slave.ended, "only the long call still sleeps"
    slave.wait_until(lambda: TaskID("t200") in slave.ended, "the long one to end")
    assert sorted(Path(ledger).read_text().split()) == sorted(names)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_stream_of_calls_each_is_run_once_and_kills_hit_only_their_own(
    slave: FakeSlave, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    ledger = str(tmp_path / "ledger")
    value(slave, double, 1)
    names = [f"t{number}" for number in range(1500)]
    dying = set(chance.sample(names, 8))
    # About as long as the executor waits before it takes back calls that a worker has not read, the critical moment.
    naps_s = {name: chance.choice([0.0, 0.0, 0.004, 0.006]) for name in chance.sample(names, 300)}
    killed = chance.sample(names, 40)
    for name in names:
        slave.launch(call(name, sign, ledger, name, naps_s.get(name, 0.0), name in dying))
    for name in killed:
        slave.kill(TaskID(name), grace_s=1.0)
        slave.turn(0.001)
    slave.wait_until(lambda: all(TaskID(name) in slave.ended for name in names), "all to end")
    ran = Counter(Path(ledger).read_text().split())
    assert max(ran.values()) == 1, "a call was run twice"
    for name in names:
        state = slave.ended[TaskID(name)].state
        if name in dying and state is not TaskState.KILLED:
            assert (state, slave.ended[TaskID(name)].reason) == (TaskState.FAILED, Reason.WORKER_DIED)
        elif name in killed:
            assert state in (TaskState.KILLED, TaskState.FINISHED)
        else:
            assert state is TaskState.FINISHED, (name, slave.ended[TaskID(name)])
        if state is TaskState.FINISHED:
            assert ran[name] == 1
            assert outcome(slave, slave.ended[TaskID(name)]).value == name
