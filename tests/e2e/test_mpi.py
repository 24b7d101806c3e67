"""`offerd mpi` with real MPI programs on a real cluster: results, ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers import leftovers
from helpers.cli import begin, environment, listing, offerd, pids_of, processes_with, wait_until, words
from helpers.mpi import EXAMPLES, compile_mpi, mpich_abi, need_mpich
from offerd_cli.local_cluster import LocalCluster

SMALL = ("--cpus", "0.5", "--mem", "32M", "--timeout", "50s")
N, STEPS = 24, 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three slaves of two cpus: twelve ranks of half a cpu with a time limit, six without."""
    need_mpich()
    with LocalCluster(3, cpus="2", mem="1G", isolation="noop") as running:
        yield running


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every C program of the examples, and one that dies."""
    need_mpich()
    folder = tmp_path_factory.mktemp("programs")
    sources = [*EXAMPLES.glob("*.c"), Path(__file__).parents[1] / "helpers" / "mpi_dies.c"]
    return {source.stem: compile_mpi(source, folder) for source in sources}


@pytest.fixture
def duration() -> str:
    """An argument for `sleep` that no other process has."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def finish(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> tuple[int, bytes]:
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def running_on(cluster: LocalCluster) -> set[str]:
    """The slaves whose tasks run, as far as the master knows."""
    tasks = listing(cluster, "tasks")["tasks"]
    return {task["hostname"] for task in tasks if task["state"] == "TASK_RUNNING"}


def heat_of_one_process() -> str:
    """The same plate in Python, point by point in the same order of additions."""
    width = N + 2
    plate = [[100.0] * width] + [[0.0] * width for _ in range(N + 1)]
    for _ in range(STEPS):
        new = [row[:] for row in plate]
        for y in range(1, N + 1):
            for x in range(1, N + 1):
                new[y][x] = 0.25 * (plate[y - 1][x] + plate[y + 1][x] + plate[y][x - 1] + plate[y][x + 1])
        plate = new
    checksum = 0
    for y in range(1, N + 1):
        for x in range(1, N + 1):
            (bits,) = struct.unpack("<Q", struct.pack("<d", plate[y][x]))
            checksum += (bits ^ bits >> 29) * (2 * (y * width + x) + 1) * 0x9E3779B97F4A7C15
    hottest = max(plate[y][x] for y in range(1, N + 1) for x in range(1, N + 1))
    return f"{N}x{N}, {STEPS} steps: checksum {checksum % 2**64:016x}, hottest {hottest:.6f}\n"


# -- what they compute ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", range(2, 9))
def test_heat_is_the_same_as_by_one_process_bit_for_bit(
    ranks: int, cluster: LocalCluster, programs: dict[str, str]
) -> None:
    spread = ("--per-slave", str(-(-ranks // 3)), "--no-label")
    done = offerd(
        cluster, "mpi", "-n", str(ranks), *SMALL, *spread, "--", programs["heat"], str(N), str(STEPS)
    )
    assert (done.returncode, done.stdout.decode()) == (0, heat_of_one_process()), done.stderr


def test_allreduce_over_three_slaves_gives_every_rank_the_sum(
    cluster: LocalCluster, programs: dict[str, str]
) -> None:
    done = offerd(cluster, "mpi", "-n", "6", *SMALL, "--per-slave", "2", "--", programs["allreduce"])
    assert (done.returncode, done.stdout) == (0, b"[0] allreduce over 6 ranks: 0 wrong of 6000\n"), (
        done.stderr
    )


def test_ping_pong_between_two_slaves_reports_its_latency(
    cluster: LocalCluster, programs: dict[str, str]
) -> None:
    done = offerd(
        cluster, "mpi", "-n", "2", *SMALL, "--per-slave", "1", "--", programs["pingpong"], "8", "500"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"[0] 8 bytes: ")


def test_a_python_program_runs_with_mpi4py(cluster: LocalCluster, tmp_path: Path) -> None:
    library = f"LD_LIBRARY_PATH={mpich_abi(tmp_path)}"
    done = offerd(
        cluster, "mpi", "-n", "3", *SMALL, "-e", library, "--", sys.executable, str(EXAMPLES / "pi.py")
    )
    assert (done.returncode, done.stdout) == (0, b"[0] pi is 3.1415926536 by 3 ranks\n"), done.stderr


def test_every_rank_prints_with_its_label_from_the_current_directory(
    cluster: LocalCluster, programs: dict[str, str]
) -> None:
    folder = Path(programs["hello"]).parent
    done = offerd(cluster, "mpi", "-n", "4", *SMALL, "--", "./hello", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = sorted(line.rpartition(" on ")[0] for line in done.stdout.decode().splitlines())
    assert said == [f"[{rank}] hello from rank {rank} of 4" for rank in range(4)]
    assert done.stderr == b""


def test_rank_0_reads_the_clients_standard_input(cluster: LocalCluster) -> None:
    done = offerd(
        cluster, "mpi", "-n", "2", *SMALL, "--", "sh", "-c", "[ $PMI_RANK = 1 ] || cat", stdin=b"a\nb\n"
    )
    assert (done.returncode, done.stdout) == (0, b"[0] a\n[0] b\n"), done.stderr


@pytest.mark.parametrize("is_queued", [False, True])
def test_ranks_have_the_submitters_umask(is_queued: bool, cluster: LocalCluster, tmp_path: Path) -> None:
    queue = ("--queue", str(tmp_path), "--wait") if is_queued else ()
    server = begin(cluster, "mpi", "--queue", str(tmp_path)) if is_queued else None
    job = words("mpi", *queue, "-n", "2", *SMALL, "--no-label", "--", "sh", "-c", "umask")
    done = subprocess.run(
        ["sh", "-c", 'umask 027; exec "$@"', "sh", *job],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(cluster),
        timeout=60,
        check=False,
    )
    if server is not None:
        finish(server)
    assert (done.returncode, done.stdout.count(b"0027\n")) == (0, 2), done.stderr


# -- output --------------------------------------------------------------------------------------------------------

WRITER = r"""
import os, sys
letter = b"%c" % (97 + int(os.environ["PMI_RANK"]))
parts = [letter * size + end for size in (70_000, 1, 1_000_000, 65_536) for end in (b"\n", b"\r\n", b"\0\xff\x85\n\n")]
for data in [*parts, b"%s no end" % letter]:
    while data:
        data = data[os.write(1, data):]
sys.exit(int(sys.argv[1]) if letter == b"a" else 0)
"""
"""A rank's output: long lines, other systems' line ends, bytes that are no text, and a last line without an end."""


def written_by(rank: int) -> list[bytes]:
    """The lines of `WRITER`."""
    letter = b"%c" % (97 + rank)
    lines = []
    for size in (70_000, 1, 1_000_000, 65_536):
        lines += [letter * size, letter * size + b"\r", letter * size + b"\0\xff\x85", b""]
    return [*lines, letter + b" no end"]


def by_rank(output: bytes) -> dict[int, list[bytes]]:
    """Labelled lines, without their labels."""
    found: dict[int, list[bytes]] = {}
    assert output.endswith(b"\n")
    for line in output[:-1].split(b"\n"):
        assert line[:1] + line[2:4] == b"[] ", line[:80]
        found.setdefault(int(line[1:2]), []).append(line[4:])
    return found


def test_every_line_comes_whole_and_labelled_once_however_long_it_is(cluster: LocalCluster) -> None:
    job = ("mpi", "-n", "3", *SMALL, "--per-slave", "1", "--", sys.executable, "-c", WRITER, "0")
    done = offerd(cluster, *job)
    assert (done.returncode, done.stderr) == (0, b"")
    assert by_rank(done.stdout) == {rank: written_by(rank) for rank in range(3)}


def test_output_of_a_rank_before_its_failure_arrives_unchanged(cluster: LocalCluster) -> None:
    done = offerd(cluster, "mpi", "-n", "1", *SMALL, "--no-label", "--", sys.executable, "-c", WRITER, "5")
    assert (done.returncode, done.stderr) == (5, b"offerd mpi: rank 0 exited with status 5\n")
    assert done.stdout.split(b"\n") == written_by(0)


def test_a_queue_keeps_every_line_whole(cluster: LocalCluster, tmp_path: Path) -> None:
    queue = ("mpi", "--queue", str(tmp_path))
    put = offerd(cluster, *queue, "-n", "3", *SMALL, "--", sys.executable, "-c", WRITER, "0")
    assert offerd(cluster, *queue, "--drain").returncode == 0
    kept = (tmp_path / f"{put.stdout.decode().strip()}.out").read_bytes()
    assert by_rank(kept) == {rank: written_by(rank) for rank in range(3)}


# -- how they end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        (("exit", "5"), 5, b"rank 2 exited with status 5"),
        (("abort", "9"), 9, b"aborted with status 9"),
        (("kill", "9"), 137, b"rank 2 was ended by signal 9"),
        (("kill", "11"), 139, b"rank 2 was ended by signal 11"),
    ],
)
def test_a_rank_that_dies_ends_the_job_with_its_status_and_its_reason(
    how: tuple[str, str], status: int, reason: bytes, cluster: LocalCluster, programs: dict[str, str]
) -> None:
    done = offerd(
        cluster, "mpi", "-n", "4", *SMALL, "--per-slave", "2", "--", programs["mpi_dies"], "2", *how
    )
    assert done.returncode == status, done.stderr
    assert reason in done.stderr.splitlines()[-1]
    assert processes_with(programs["mpi_dies"]) == []


@pytest.mark.parametrize(
    ("leaves", "status"),
    [
        ("sleep DURATION &", 0),
        ("sleep DURATION &", 3),
        ("env -i setsid sleep DURATION &", 0),
        ("(setsid sh -c 'trap : TERM; while :; do sleep DURATION; done' &);", 3),
    ],
)
def test_a_rank_ends_with_its_program_whatever_that_leaves(
    cluster: LocalCluster, duration: str, leaves: str, status: int
) -> None:
    program = f"{leaves.replace('DURATION', duration)} echo hi; exit {status}"
    # If one rank fails, another may be ended before it has written anything.
    ranks = 1 if status else 2
    done = offerd(cluster, "mpi", "-n", str(ranks), *SMALL, "--no-label", "--", "sh", "-c", program)
    assert (done.returncode, done.stdout) == (status, b"hi\n" * ranks), done.stderr
    wait_until(lambda: not processes_with(duration), "what the ranks left behind to be gone")


def test_a_program_that_does_not_exist_is_127(cluster: LocalCluster) -> None:
    done = offerd(cluster, "mpi", "-n", "2", *SMALL, "--", "./no-such-program")
    assert done.returncode == 127
    assert b"no-such-program" in done.stderr


def test_a_job_past_its_time_limit_is_124_and_all_ranks_are_gone(
    cluster: LocalCluster, duration: str
) -> None:
    done = offerd(
        cluster, "mpi", "-n", "4", "--cpus", "0.5", "--per-slave", "2", "--timeout", "1s", "--",
        "sleep", duration,
    )  # fmt: skip
    assert done.returncode == 124
    assert b"TASK_TIMEOUT" in done.stderr
    assert processes_with(duration) == []


def test_output_streams_while_ranks_run_and_ctrl_c_ends_them_all(
    cluster: LocalCluster, duration: str
) -> None:
    process = begin(
        cluster, "mpi", "-n", "4", *SMALL, "--per-slave", "2", "--", "sh", "-c", f"echo up; sleep {duration}"
    )
    assert process.stdout is not None
    lines = sorted(process.stdout.readline() for _ in range(4))
    assert lines == [b"[%d] up\n" % rank for rank in range(4)]
    # A shell that has written its line may not have started its program yet.
    wait_until(lambda: len(processes_with(duration)) == 4, "the ranks to run")
    assert finish(process)[0] == 130
    assert processes_with(duration) == []


def test_ranks_and_process_manager_end_with_a_killed_client(
    cluster: LocalCluster, programs: dict[str, str], duration: str
) -> None:
    process = begin(cluster, "mpi", "-n", "4", *SMALL, "--per-slave", "2", "--", "sleep", duration)
    wait_until(lambda: len(processes_with(duration)) >= 4, "the ranks to run")
    assert finish(process, signal.SIGKILL)[0] == -signal.SIGKILL
    wait_until(lambda: processes_with(duration) == [], "ranks and process manager to end")


def test_a_job_with_retries_starts_again_with_all_its_input_when_a_slave_freezes(
    duration: str, tmp_path: Path
) -> None:
    need_mpich()
    (tmp_path / "input").write_bytes(b"input\n")
    patience = ("--ping-interval", "0.3s", "--missed-pings", "3")
    with LocalCluster(3, cpus="2", mem="1G", isolation="noop", master_options=patience) as cluster:
        arguments = (
            "mpi",
            "-n",
            "2",
            "--timeout",
            "50s",
            "--per-slave",
            "1",
            "--cpus",
            "2",
            "--resubmit",
            "1",
        )
        with (tmp_path / "input").open("rb") as file:
            process = leftovers.start(
                words(*arguments, "--", "sh", "-c", f"[ $PMI_RANK = 1 ] || cat; exec sleep {duration}"),
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(cluster),
            )
        assert process.stdout is not None
        assert process.stdout.readline() == b"[0] input\n"
        wait_until(lambda: len(processes_with(duration)) == 2, "both ranks to run")
        (host, *_) = [task["hostname"] for task in listing(cluster, "tasks")["tasks"]]
        frozen = next(slave for slave in cluster.slaves if slave.name == host)
        frozen.signal(signal.SIGSTOP)
        assert process.stderr is not None
        assert b"submitted again (1 of 1)" in process.stderr.readline()
        assert process.stdout.readline() == b"[0] input\n"
        wait_until(lambda: len(running_on(cluster) - {host}) == 2, "the job to run elsewhere")
        frozen.signal(signal.SIGCONT)
        wait_until(lambda: len(processes_with(duration)) == 2, "the lost rank to be ended")
        assert finish(process)[0] == 130
        wait_until(lambda: processes_with(duration) == [], "all ranks to end")


def test_a_job_listens_only_at_its_slaves_addresses_and_gets_only_named_variables(
    cluster: LocalCluster, programs: dict[str, str]
) -> None:
    """By default MPICH's process manager, proxies and ranks would listen on all interfaces."""
    steps = str(10**9)
    options = ("-n", "4", *SMALL, "--per-slave", "2", "-e", "NAMED=1", "-e", "UCX_TLS=tcp,self")
    process = leftovers.start(
        words("mpi", *options, "--", programs["heat"], "24", steps),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(cluster, MY_SECRET="s3cr3t"),
    )
    assert process.stderr is not None
    wait_until(lambda: len(ranks_of(programs["heat"], steps)) == 4 or process.poll() is not None, "the ranks")
    assert process.poll() is None, process.stderr.read()
    ranks = ranks_of(programs["heat"], steps)
    children = psutil.Process(process.pid).children()
    (hydra,) = (child for child in children if child.name().startswith("mpiexec.hydra"))
    wait_until(lambda: all(listening(rank) for rank in ranks), "the ranks to listen")
    parents = [parent for rank in ranks for parent in rank.parents()[:2]]
    assert any(parent.name().startswith("hydra_pmi_proxy") for parent in parents)
    assert {address for each in (hydra, *parents, *ranks) for address in listening(each)} == {"127.0.0.1"}
    for each in (hydra, *ranks):
        assert each.environ().get("NAMED") == "1"
        assert "MY_SECRET" not in each.environ()
    assert finish(process)[0] == 130
    wait_until(lambda: ranks_of(programs["heat"], steps) == [], "the ranks to end")


def ranks_of(program: str, argument: str) -> list[psutil.Process]:
    """The processes of this program with this last argument."""
    found = []
    for pid in pids_of(program):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.cmdline()[-1:] == [argument]:
                found.append(process)
    return found


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which it waits for connections."""
    return {each.laddr[0] for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}


def test_output_that_cannot_be_written_is_one_line_and_status_1_and_all_ranks_are_gone(
    cluster: LocalCluster, duration: str
) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words("mpi", "-n", "2", *SMALL, "--", "sh", "-c", f"echo out; exec sleep {duration}"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(cluster, PYTHONUNBUFFERED=""),
            timeout=40,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr == b"offerd: the ranks' output cannot be written: No space left on device\n"
    wait_until(lambda: processes_with(duration) == [], "the ranks to end")


# -- gangs ------------------------------------------------------------------------------------------------------------


def test_two_gangs_that_need_more_than_half_of_the_cluster_each_both_run(
    cluster: LocalCluster, programs: dict[str, str]
) -> None:
    both = [
        begin(cluster, "mpi", "-n", "8", *SMALL, "--hold", "1s", "--", programs["allreduce"])
        for _ in range(2)
    ]
    for process in both:
        said, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        assert b"0 wrong" in said


def test_a_gang_that_the_cluster_cannot_hold_says_so_and_gives_back_what_it_held(
    cluster: LocalCluster, duration: str
) -> None:
    process = begin(cluster, "mpi", "-n", "20", *SMALL, "--hold", "500ms", "--", "sleep", duration)
    assert process.stderr is not None
    assert any(b"waiting: room for 12 of 20: " in line for line in process.stderr)
    assert offerd(cluster, "run", "--cpus", "2", "--timeout", "20s", "--", "true").returncode == 0
    assert finish(process)[0] == 130


def test_a_gang_without_a_time_limit_that_waits_says_why_and_what_would_start_it(
    cluster: LocalCluster, duration: str
) -> None:
    process = begin(cluster, "mpi", "-n", "4", "--mem", "32M", "--", "sleep", duration)
    assert process.stderr is not None
    line = next(line for line in process.stderr if b"waiting: " in line)
    assert b"room for 3 of 4: tasks without a time limit" in line
    assert b"--timeout 60s" in line
    assert finish(process)[0] == 130


def test_a_job_beyond_the_guaranteed_share_is_refused_and_one_within_it_runs(
    programs: dict[str, str],
) -> None:
    with LocalCluster(
        1, cpus="4", mem="1G", isolation="noop", master_options=("--guarantee", "mpi=cpus=1")
    ) as cluster:
        more = offerd(cluster, "mpi", "--role", "mpi", "-n", "4", *SMALL, "--", programs["hello"])
        assert more.returncode == 2
        assert b"cpus=1 is guaranteed" in more.stderr
        assert more.stderr.count(b"\n") == 1
        assert (
            offerd(cluster, "mpi", "--role", "mpi", "-n", "2", *SMALL, "--", programs["hello"]).returncode
            == 0
        )


# -- queues -----------------------------------------------------------------------------------------------------------


def test_a_queue_runs_its_jobs_under_one_framework_and_holds_nothing_when_it_is_empty(
    cluster: LocalCluster, programs: dict[str, str], tmp_path: Path
) -> None:
    server = begin(cluster, "mpi", "--queue", str(tmp_path), "--name", "torque")
    assert server.stderr is not None
    assert b"serving" in server.stderr.readline()
    jobs = [
        offerd(cluster, "mpi", "--queue", str(tmp_path), "-n", "4", *SMALL, "--", programs["hello"])
        for _ in range(2)
    ]
    waited = offerd(
        cluster,
        "mpi",
        "--queue",
        str(tmp_path),
        "--wait",
        "-n",
        "2",
        *SMALL,
        "--",
        "sh",
        "-c",
        "echo out; exit 3",
    )
    assert waited.returncode == 3
    assert b"] out\n" in waited.stdout
    for job in jobs:  # there is room for all three at once: the last put may be the first to end
        job_id = job.stdout.decode().strip()
        wait_until((tmp_path / f"{job_id}.end").exists, "the job to end")
        said = (tmp_path / f"{job_id}.out").read_text()
        assert sorted(line[:3] for line in said.splitlines()) == ["[0]", "[1]", "[2]", "[3]"]

    def holds_nothing() -> bool:
        (framework,) = [f for f in listing(cluster, "frameworks")["frameworks"] if f["name"] == "torque"]
        return not framework["used"] and not framework["offered"]

    wait_until(holds_nothing, "the empty queue to hold nothing")
    assert finish(server)[0] == 130


def test_a_drained_queue_ends_when_its_jobs_have(
    cluster: LocalCluster, programs: dict[str, str], tmp_path: Path
) -> None:
    put = offerd(cluster, "mpi", "--queue", str(tmp_path), "-n", "2", *SMALL, "--", programs["hello"])
    assert b"nothing serves" in put.stderr
    assert offerd(cluster, "mpi", "--queue", str(tmp_path), "--drain").returncode == 0
    assert (tmp_path / f"{put.stdout.decode().strip()}.end").exists()


def test_a_queue_that_cannot_be_written_is_no_longer_served(
    cluster: LocalCluster, programs: dict[str, str], tmp_path: Path
) -> None:
    put = offerd(cluster, "mpi", "--queue", str(tmp_path), "-n", "2", *SMALL, "--", programs["hello"])
    output = tmp_path / f"{put.stdout.decode().strip()}.out"
    output.mkdir()
    served = offerd(cluster, "mpi", "--queue", str(tmp_path))
    assert served.returncode == 1
    assert served.stderr.splitlines()[1:] == [f"offerd: {output} cannot be written: Is a directory".encode()]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--", "./hello"), b"how many ranks"),
        (("-n", "4"), b"which program"),
        ((), b"nothing to run"),
        (("-n", "2", "--wait", "--", "true"), b"--queue"),
        (("-n", "2", "--resubmit", "1", "--", "true"), b"pipe"),
        (("-n", "2", "-C", "no/such/place", "--", "true"), b"not a directory"),
        (("-n", "2", "--cpus", "0", "--mem", "0M", "--", "true"), b"needs some resources"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: tuple[str, ...], says: bytes) -> None:
    done = offerd(None, "mpi", *arguments, stdin=b"for rank 0\n")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_without_mpich_one_line_says_how_to_get_it() -> None:
    done = subprocess.run(
        words("mpi", "-n", "2", "--", "true"),
        capture_output=True,
        env={**environment(None), "PATH": os.path.dirname(sys.executable)},
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == b"offerd: mpiexec.hydra is not installed here; MPI jobs need MPICH: apt-get install mpich\n"
    )
