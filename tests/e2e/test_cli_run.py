"""`offerd run` against a real cluster: what the person at the terminal sees and what the shell gets."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sysconfig
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from helpers import leftovers
from helpers.cli import begin, environment, listing, offerd, processes_with, wait_until, words
from offerd_cli.local_cluster import LocalCluster

LIMIT_S = 2.0
SLACK_S = 0.5


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One slave of four cpus, so two for long tasks."""
    with LocalCluster(1, cpus="4", mem="2G", slave_options=("--attributes", "rack=7")) as running:
        yield running


@pytest.fixture
def duration() -> str:
    """An argument for `sleep` that no other process has."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """The lines of its stderr up to the one that contains `text`."""
    assert process.stderr is not None
    read = b""
    while text not in read:
        line = process.stderr.readline()
        assert line, f"{text!r} never came; there was {read!r}"
        read += line
    return read


def begin_into(stdout: BinaryIO, cluster: LocalCluster, *arguments: str) -> subprocess.Popen[bytes]:
    return leftovers.start(
        words(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(cluster),
    )


def everybody_can_enter(path: str) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (Path(path), *Path(path).parents))


def finish(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


def test_a_command_runs_and_its_output_comes_here(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "sh", "-c", "echo hello; echo oops >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"oops\n")


@pytest.mark.parametrize(
    ("command", "redirection", "out"),
    [
        ("run", "<&-", b"hi\n"),
        ("run", ">&-", b""),
        ("run", "2>&-", b"hi\n"),
        ("map", ">&-", b""),
        ("status", ">&- 2>&-", b""),
    ],
)
def test_a_standard_stream_that_is_closed_is_dev_null(
    command: str, redirection: str, out: bytes, cluster: LocalCluster
) -> None:
    more = {"run": ["--", "echo", "hi"], "map": ["echo", ":::", "hi"], "status": []}
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *words(command, *more[command])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(cluster),
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, out, b"")


def test_bytes_that_are_no_utf_8_reach_a_command_as_they_are(cluster: LocalCluster, tmp_path: Path) -> None:
    odd, word = os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff ok")
    (tmp_path / odd).mkdir()
    program = tmp_path / odd / odd
    program.write_text('#!/bin/sh\npwd; printf "%s\\n" "$0" "$@"\n')
    program.chmod(0o755)
    done = offerd(cluster, "run", "-C", odd, "--", f"./{odd}", word, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    where = os.fsencode(tmp_path.resolve())
    assert done.stdout == where + b"/caf\xe9\n./caf\xe9\n\xff ok\n"
    shown = offerd(cluster, "run", "-e", f"{odd}={word}", "--", "env")
    assert b"\ncaf\xe9=\xff ok\n" in shown.stdout
    gone = offerd(cluster, "run", "--", f"./{odd}")
    assert gone.returncode == 127
    assert b"caf\\udce9: No such file" in gone.stderr
    refused = offerd(cluster, "run", "--role", odd, "--", "true")
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)


def test_the_directory_is_no_part_of_the_command(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "date=1").mkdir()
    program = tmp_path / "date=1/run.sh"
    program.write_text('#!/bin/sh\necho "$0" "$@"\n')
    program.chmod(0o755)
    done = offerd(cluster, "run", "-C", ".", "--", "./date=1/run.sh", "x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"./date=1/run.sh x\n")
    gone = offerd(cluster, "run", "-C", str(tmp_path / "gone"), "--", "true")
    assert gone.returncode == 127
    assert b"gone: No such file or directory" in gone.stderr


def test_a_script_without_an_interpreter_is_the_shells(cluster: LocalCluster, tmp_path: Path) -> None:
    program = tmp_path / "script"
    program.write_text('echo "$0" "$@"\n')
    program.chmod(0o755)
    done = offerd(cluster, "run", "--", str(program), "x")
    assert (done.returncode, done.stdout) == (0, f"{program} x\n".encode())
    there = offerd(cluster, "run", "-C", ".", "-e", "PATH=.", "--", "script", "x", cwd=tmp_path)
    assert (there.returncode, there.stdout) == (0, b"./script x\n")
    each = offerd(cluster, "map", "-k", "-C", ".", "--", "./script", ":::", "x", "y", cwd=tmp_path)
    assert (each.returncode, each.stdout) == (0, b"./script x\n./script y\n")


def test_a_task_has_the_environment_of_its_user_and_the_submitters_umask(cluster: LocalCluster) -> None:
    me = pwd.getpwuid(os.geteuid())
    script = 'echo "$HOME $USER $LOGNAME"; umask'
    shell = subprocess.run(
        ["sh", "-c", 'umask 027; exec "$@"', "sh", *words("run", "--", "sh", "-c", script)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(cluster),
        timeout=30,
        check=False,
    )
    assert shell.stdout.decode() == f"{me.pw_dir} {me.pw_name} {me.pw_name}\n0027\n"


@pytest.mark.parametrize("command", ["run", "map"])
def test_output_that_stdout_takes_only_in_part_is_an_error(
    command: str, cluster: LocalCluster, tmp_path: Path
) -> None:
    more = {"run": ["--", "seq", "30000"], "map": ["seq", ":::", "30000"]}
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f 100; "$@" > "{tmp_path}/out"', "bash", *words(command, *more[command])],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(cluster, PYTHONUNBUFFERED="1"),
        timeout=30,
        check=False,
    )
    assert done.stderr == f"offerd {command}: cannot write the output: File too large\n".encode()
    assert (done.returncode, (tmp_path / "out").stat().st_size) == (1, 102_400)


def test_standard_input_that_would_be_lost_is_refused(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "cat", stdin=b"hello")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input does not reach the command" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("encoding", "bar"), [("ascii", "."), ("latin-1", "\xb7")])
def test_output_uses_characters_of_the_locale(
    encoding: str, bar: str, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = offerd(cluster, "status")
    assert (done.returncode, done.stderr) == (0, b"")
    assert bar * 20 in done.stdout.decode(encoding)
    tasks = offerd(cluster, "tasks", "--all")
    assert (tasks.returncode, tasks.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 3", 3), ("kill -SEGV $$", 139), ("exit 0", 0), ("exit 255", 255)]
)
def test_the_exit_status_is_the_commands(script: str, status: int, cluster: LocalCluster) -> None:
    assert offerd(cluster, "run", "--", "sh", "-c", script).returncode == status


def test_a_program_that_does_not_exist_is_127_and_one_line(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "no-such-program")
    assert done.returncode == 127
    assert done.stderr.count(b"\n") == 1
    assert b"no-such-program" in done.stderr


def test_output_larger_than_any_message_comes_whole(cluster: LocalCluster) -> None:
    script = "i=0; while [ $i -lt 200 ]; do head -c 20000 /dev/zero; i=$((i+1)); done; echo end"
    done = offerd(cluster, "run", "--", "sh", "-c", script)
    assert done.stdout == bytes(4_000_000) + b"end\n"


def test_output_larger_than_a_log_file_comes_whole(cluster: LocalCluster) -> None:
    """The log is rotated at 10 MiB; the older part is read first."""
    script = "i=0; while [ $i -lt 14 ]; do head -c 1000000 /dev/zero; sleep 0.02; i=$((i+1)); done; echo end"
    done = offerd(cluster, "run", "--", "sh", "-c", script)
    assert len(done.stdout) == 14_000_004


def test_a_command_that_writes_faster_than_its_client_reads_waits_and_loses_nothing(
    cluster: LocalCluster,
) -> None:
    """The slave keeps two log files and a full pipe; the rest is written when the first file was read."""
    size = 40_000_000
    process = begin(cluster, "run", "--name", "fast", "--", "head", "-c", str(size), "/dev/zero")
    work_dir = cluster.slaves[0].work_dir
    assert work_dir is not None

    def kept_bytes() -> int:
        return sum(path.stat().st_size for path in work_dir.glob("containers/*/sandbox/tasks/fast-*/stdout*"))

    wait_until(lambda: kept_bytes() >= 20 << 20, "two files to be full")
    (task,) = [t for t in listing(cluster, "tasks")["tasks"] if t["name"] == "fast"]
    assert task["state"] == "TASK_RUNNING"
    assert kept_bytes() <= (20 << 20) + (64 << 10)
    stdout, stderr = process.communicate(timeout=30)
    assert (len(stdout), stderr, process.returncode) == (size, b"", 0)
    (ended,) = [t for t in listing(cluster, "tasks", "--all")["tasks"] if t["name"] == "fast"]
    assert ended["output"] == {"stdout_bytes": size, "stderr_bytes": 0}
    logs = offerd(cluster, "logs", task["task_id"])
    assert (logs.returncode, len(logs.stdout) < size) == (1, True)
    assert b"%d of %d bytes of its stdout are gone" % (size - len(logs.stdout), size) in logs.stderr


def test_output_goes_on_from_a_slave_that_is_started_again_on_another_port(cluster: LocalCluster) -> None:
    script = "echo one; until [ -e go ]; do sleep 0.1; done; echo two; head -c 100000 /dev/zero"
    slave = cluster.slaves[0]
    assert slave.work_dir is not None
    run = begin(cluster, "run", "--name", "moved", "--", "sh", "-c", script)
    assert run.stdout is not None
    assert run.stdout.readline() == b"one\n"
    (task,) = [t for t in listing(cluster, "tasks")["tasks"] if t["name"] == "moved"]
    logs = begin(cluster, "logs", "-f", task["task_id"])
    assert logs.stdout is not None
    assert logs.stdout.readline() == b"one\n"
    before = listing(cluster, "slaves")["slaves"][0]["files_address"]
    cluster.kill_slave(0)
    slave.words[slave.words.index("--http-port") + 1] = "0"
    (directory,) = slave.work_dir.glob("containers/*/sandbox/tasks/moved-*")
    (directory / "go").touch()
    with socket.socket() as somebody_else:
        somebody_else.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody_else.bind(("127.0.0.1", int(before.rpartition(":")[2])))
        cluster.restart_slave(0)
        for process in (run, logs):
            stdout, stderr = process.communicate(timeout=60)
            assert (stdout, stderr, process.returncode) == (b"two\n" + bytes(100_000), b"", 0)
        assert listing(cluster, "slaves")["slaves"][0]["files_address"] != before


def test_output_that_is_printed_at_the_end_is_kept_whole_until_then(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--no-stream", "--", "head", "-c", "21000000", "/dev/zero")
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 21_000_000, b"")


def test_a_command_whose_output_is_lost_fails_with_the_number_of_bytes(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--", "sh", "-c", 'rmdir "$PWD"; echo hello; echo oops >&2')
    assert (done.returncode, done.stdout) == (1, b"")
    # It depends on which file was requested first.
    assert sorted(done.stderr.splitlines()) == [
        b"offerd run: 5 of 5 bytes of the command's stderr are lost",
        b"offerd run: 6 of 6 bytes of the command's stdout are lost",
    ]
    done = offerd(cluster, "run", "--", "sh", "-c", 'rmdir "$PWD"; echo hello; exit 3')
    assert done.returncode == 3


def test_the_environment_is_the_requested_one_not_the_clients(cluster: LocalCluster) -> None:
    done = offerd(
        cluster, "run", "--env", "GREETING=hi there", "--", "sh", "-c", 'echo "$GREETING $NO_COLOR"'
    )
    assert done.stdout == b"hi there \n"


def test_every_instance_has_a_number_and_a_prefix(cluster: LocalCluster) -> None:
    done = offerd(
        cluster, "run", "-n", "3", "--cpus", "0.1", "--timeout", "30s", "--",
        "sh", "-c", "echo $OFFERD_INSTANCE of $OFFERD_INSTANCES; printf more",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == [
        line for n in (b"1", b"2", b"3") for line in (b"[%s] %s of 3" % (n, n), b"[%s] more" % n)
    ]


def test_if_any_of_several_instances_fails_the_exit_status_is_1_and_they_are_named(
    cluster: LocalCluster,
) -> None:
    done = offerd(
        cluster, "run", "-n", "3", "--cpus", "0.1", "--timeout", "30s", "--no-stream", "--",
        "sh", "-c", "[ $OFFERD_INSTANCE != 2 ] || exit 7",
    )  # fmt: skip
    assert done.returncode == 1
    assert b"[2] failed" in done.stderr
    assert b"1 of 3 instances failed" in done.stderr


def test_a_task_past_its_time_limit_is_killed_with_all_its_children(
    cluster: LocalCluster, duration: str
) -> None:
    script = f"setsid sleep {duration} & sleep {duration}"
    done = offerd(cluster, "run", "--name", "late", "--timeout", "2s", "--", "sh", "-c", script)
    assert done.returncode == 124
    assert b"TASK_TIMEOUT" in done.stderr
    assert processes_with(duration) == []
    (task,) = [t for t in listing(cluster, "tasks", "--all")["tasks"] if t["name"] == "late"]
    assert (task["state"], task["reason"]) == ("TASK_KILLED", "TASK_TIMEOUT")
    # The limit counts from the delivery to the executor, `ran_s` from the report that it runs.
    assert LIMIT_S - 0.2 < task["ran_s"] < LIMIT_S + SLACK_S


def test_output_streams_while_the_command_runs_and_ctrl_c_kills_it(
    cluster: LocalCluster, duration: str
) -> None:
    process = begin(cluster, "run", "--", "sh", "-c", f"echo first; exec sleep {duration}")
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    assert len(processes_with(duration)) == 1
    assert finish(process) == 130
    assert processes_with(duration) == []


def test_a_client_that_is_killed_takes_its_task_with_it(cluster: LocalCluster, duration: str) -> None:
    process = begin(cluster, "run", "--", "sleep", duration)
    wait_until(lambda: processes_with(duration), "the task to run")
    assert finish(process, signal.SIGTERM) == 143
    assert processes_with(duration) == []


def test_a_task_ends_when_its_output_is_not_read_any_more(
    cluster: LocalCluster, duration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # so that unwritten output stays in Python's buffer
    process = begin(
        cluster, "run", "--", "sh", "-c", f"echo a; sleep 1; echo b; echo c; exec sleep {duration}"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"a\n"
    process.stdout.close()
    assert process.wait(30) == 141
    wait_until(lambda: not processes_with(duration), "the task to end")
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("command", ["run", "map"])
def test_no_room_for_the_output_ends_the_tasks_with_one_line_and_status_1(
    command: str, cluster: LocalCluster, duration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    script = f'echo out; [ "$0" = brief ] || exec sleep {duration}'
    arguments = {"run": ["--", "sh", "-c", script], "map": ["sh", "-c", script, ":::", "brief", "long"]}
    with open("/dev/full", "wb") as full:
        process = begin_into(full, cluster, command, *arguments[command])
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1, said
    assert said == f"offerd {command}: cannot write the output: No space left on device\n".encode()
    wait_until(lambda: not processes_with(duration), "the tasks to end")


def test_no_room_for_a_log_is_one_line_and_status_1(cluster: LocalCluster) -> None:
    assert offerd(cluster, "run", "--name", "logged", "--", "echo", "x").returncode == 0
    (task,) = [t for t in listing(cluster, "tasks", "--all")["tasks"] if t["name"] == "logged"]
    with open("/dev/full", "wb") as full:
        process = begin_into(full, cluster, "logs", task["task_id"])
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said == b"offerd logs: cannot write the output: No space left on device\n"


def test_of_three_untimed_tasks_on_four_cpus_two_run_and_the_third_waits_for_the_long_cap(
    cluster: LocalCluster, duration: str
) -> None:
    running = [begin(cluster, "run", "--", "sleep", duration) for _ in range(2)]
    wait_until(lambda: len(processes_with(duration)) == 2, "two tasks to run")
    third = begin(cluster, "run", "--", "sleep", duration)
    waiting = read_until(third, b"waiting:")
    assert b"tasks without a time limit" in waiting
    assert b"--timeout 60s" in waiting
    assert len(processes_with(duration)) == 2
    finish(running[0])
    wait_until(lambda: len(processes_with(duration)) == 2, "the third task to get the first one's place")
    assert [finish(process) for process in (running[1], third)] == [130, 130]
    assert processes_with(duration) == []


def test_a_slave_of_one_cpu_runs_one_long_task_and_the_next_one_says_why_it_waits(
    duration: str,
) -> None:
    with LocalCluster(1, cpus="1", mem="256M", isolation="noop") as small:
        assert offerd(small, "run", "--", "true").returncode == 0
        first = begin(small, "run", "--cpus", "0.5", "--", "sleep", duration)
        wait_until(lambda: len(processes_with(duration)) == 1, "the first task to run")
        second = begin(small, "run", "--", "sleep", duration)
        waiting = read_until(second, b"waiting:")
        assert b"the most that is free on one is cpus=0.5" in waiting
        assert b'held there: cpus=0.5 by framework "sleep"' in waiting
        assert [finish(process) for process in (first, second)] == [130, 130]


def test_with_a_time_limit_under_the_short_limit_all_of_the_slave_is_used(
    cluster: LocalCluster, duration: str
) -> None:
    running = [begin(cluster, "run", "--timeout", "50s", "--", "sleep", duration) for _ in range(4)]
    wait_until(lambda: len(processes_with(duration)) == 4, "four tasks to run")
    assert [finish(process) for process in running] == [130] * 4
    assert processes_with(duration) == []


def test_a_task_runs_only_on_slaves_with_the_attributes_asked_for(cluster: LocalCluster) -> None:
    assert offerd(cluster, "run", "--attributes", "rack=7", "--", "true").returncode == 0
    process = begin(cluster, "run", "--attributes", "rack=8", "--", "true")
    assert b"has the attributes rack=8" in read_until(process, b"waiting:")
    assert finish(process) == 130


def test_a_task_that_fits_nowhere_says_so(cluster: LocalCluster) -> None:
    process = begin(cluster, "run", "--cpus", "64", "--", "true")
    assert b"waiting: " in read_until(process, b"waiting:")
    assert finish(process) == 130


def test_without_a_master_it_fails_with_one_line_that_says_how_to_start_one() -> None:
    done = subprocess.run(
        [*words(), "run", "--master", "127.0.0.1:1", "--", "true"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"offerd local" in done.stderr


@pytest.mark.root
def test_a_task_runs_as_the_user_asked_for_if_that_user_can_reach_python(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--user", "nobody", "--", "id", "-un")
    if everybody_can_enter(sysconfig.get_path("stdlib")):
        assert (done.returncode, done.stdout) == (0, b"nobody\n"), done.stderr
    else:  # root's own Python runs the slave: refused with the reason
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"EXECUTOR_NOT_LAUNCHED" in done.stderr
        assert b"cannot read /" in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_an_unknown_user_is_named_as_unknown(cluster: LocalCluster) -> None:
    done = offerd(cluster, "run", "--user", "no-such-user", "--", "true")
    assert done.returncode == 1
    assert b"no-such-user" in done.stderr
    assert done.stderr.count(b"\n") == 1
