"""MapReduce on real clusters: the same bytes as a single process, whatever dies meanwhile."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import cli
from helpers.cli import begin, listing, wait_until
from helpers.texts import generate, real_texts
from helpers.word_jobs import (
    COUNT,
    EXAMPLES,
    INDEX_MAPPER,
    INDEX_REDUCER,
    SPLIT_WORDS,
    lines_of,
    with_files_in_order,
)
from offerd_cli.local_cluster import LocalCluster
from offerd_frameworks import mapreduce
from offerd_frameworks.mapreduce import blocks

FIRST_ATTEMPT_FAILS = 'case "$mapreduce_task_attempt_id" in *_0) echo not yet >&2; exit 1;; esac; '
AWKS_BLANKS = re.compile(rb"[ \t\n]+")
"""Between awk's fields: a form feed, which Debian's library sources have, is none of them."""
GENERATED_MB = int(os.environ.get("OFFERD_MAPREDUCE_MB", "10"))
"""Of generated text, and half of that once more: `make test-nightly` has more than 1 GB."""
LIMIT_S = 60.0 + GENERATED_MB
pytestmark = pytest.mark.timeout(120 + 3 * GENERATED_MB)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated files and real ones."""
    base = tmp_path_factory.mktemp("texts")
    generate(base / "a.txt", GENERATED_MB << 20, seed=1)
    generate(base / "b.txt", (GENERATED_MB << 20) // 2, seed=2)
    for path in real_texts():
        shutil.copy(path, base / f"{path.parent.name}-{path.name}")
    return base


@pytest.fixture(scope="module")
def expected(texts: Path) -> list[bytes]:
    """The word count by one process, sorted."""
    counts: Counter[bytes] = Counter()
    for path in sorted(texts.iterdir()):
        with path.open("rb") as lines:
            for line in lines:
                counts.update(line.split())
    return sorted(b"%s\t%d" % pair for pair in counts.items())


@pytest.fixture(scope="module")
def answers(texts: Path, expected: list[bytes]) -> dict[str, list[bytes]]:
    """The results of one process for these texts."""
    index: dict[bytes, set[bytes]] = {}
    every_line: list[bytes] = []
    for path in texts.iterdir():
        lines = path.read_bytes().split(b"\n")[:-1]
        every_line += lines
        for word in {word for line in lines for word in AWKS_BLANKS.split(line) if word}:
            index.setdefault(word, set()).add(path.name.encode())
    return {
        "word count": expected,
        "inverted index": with_files_in_order([b"%s\t%s" % (w, b",".join(f)) for w, f in index.items()]),
        "sort": sorted(every_line),
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3, cpus="2", mem="1G", isolation="noop") as running:
        yield running


def offerd(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return cli.offerd(cluster, *arguments, timeout_s=LIMIT_S)


def block(mib: int) -> str:
    """Of a block: so many MiB, and more for more text."""
    return f"{mib * max(1, GENERATED_MB // 50)}M"


def test_a_word_count_by_commands_equals_one_processs(
    cluster: LocalCluster, texts: Path, expected: list[bytes], tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", SPLIT_WORDS, "--reducer", COUNT, "--input", str(texts),
        "--output", str(tmp_path / "out"), "--reduces", "3", "--block-size", block(2),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = lines_of(tmp_path / "out")
    assert sorted(lines) == expected
    keys = [line.partition(b"\t")[0] for line in lines]
    assert keys == sorted(keys), "the parts are sorted one after the other"
    assert b"3 parts" in done.stdout
    assert b"shuffle" in done.stdout


def test_an_inverted_index_knows_which_file_a_line_is_from(
    cluster: LocalCluster, texts: Path, answers: dict[str, list[bytes]], tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", INDEX_MAPPER, "--reducer", INDEX_REDUCER, "--input", str(texts),
        "--output", str(tmp_path / "out"), "--reduces", "2", "--block-size", block(3),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert with_files_in_order(lines_of(tmp_path / "out")) == answers["inverted index"]


def test_a_sort_is_one_over_all_parts_and_spills_when_memory_is_short(
    cluster: LocalCluster, texts: Path, tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", "cat", "--reducer", "cat", "--input", str(texts / "a.txt"),
        "--output", str(tmp_path / "out"), "--reduces", "3", "--mem", "32M", "--block-size", "64M",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "out") == sorted((texts / "a.txt").read_bytes().split(b"\n")[:-1])


def test_lines_are_sorted_by_key_even_if_values_come_late(cluster: LocalCluster, tmp_path: Path) -> None:
    """At first no line has a value, and without values another order would do."""
    keys = [b"b%05d" % number for number in range(20_000)]
    lines = [*keys, *(b"a\x01\tx", b"a\ty", b"a", b"a\x01", b"a\tz"), *keys]
    (tmp_path / "in").write_bytes(b"\n".join(lines) + b"\n")
    done = offerd(
        cluster, "mapreduce", "--mapper", "cat", "--reducer", "cat", "--input", str(tmp_path / "in"),
        "--output", str(tmp_path / "out"), "--reduces", "2", "--block-size", "100M",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = lines_of(tmp_path / "out")
    found_keys = [line.partition(b"\t")[0] for line in found]
    assert sorted(found) == sorted(lines)
    assert found_keys == sorted(found_keys)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_reducers_first_attempt_may_fail(
    cluster: LocalCluster, texts: Path, answers: dict[str, list[bytes]], tmp_path: Path, name: str
) -> None:
    example = EXAMPLES[name]
    done = offerd(
        cluster, "mapreduce", "--mapper", example.mapper, "--combiner", "cat",
        "--reducer", FIRST_ATTEMPT_FAILS + example.reducer,
        "--input", str(texts), "--output", str(tmp_path / "out"), "--reduces", "3", "--block-size", block(4),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert example.plain(lines_of(tmp_path / "out")) == answers[name]
    assert b"3 attempts failed" in done.stdout


def test_a_job_that_cannot_succeed_says_why_and_leaves_no_output(
    cluster: LocalCluster, texts: Path, tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", "echo no such thing >&2; exit 3", "--reducer", "cat",
        "--input", str(texts / "a.txt"), "--output", str(tmp_path / "out"), "--attempts", "2",
    )  # fmt: skip
    assert done.returncode == 1
    assert b" failed 2 times, last on slave-" in done.stderr
    assert b"the mapper ended with status 3: no such thing" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--reducer", "cat", "--input", "/no/such/file"], b"there is no input"),
        (["--reducer", "cat", "--input", "data:nothing"], b"there is no set nothing"),
        (["--reducer", "cat", "--input", "/etc/no-such-*"], b"no input matches /etc/no-such-*"),
        (["--reducer", "cat", "--input", "data:no-*"], b"no set matches no-*"),
        (["--input", "/etc/hostname"], b"the reducer is missing"),
        (["--reducer", "cat", "--input", "/etc/hostname", "--file", "/no/such"], b"cannot read the file"),
        (["--reducer", "cat", "--input", "/etc/hostname", "--mem", "1M"], b"too little for a task"),
        (
            ["--reducer", "cat", "--input", "/etc/hostname", "-D", "stream.map.output=typedbytes"],
            b"does not support this property",
        ),
        (["--input", "/etc/hostname", "-D", "mapreduce.job.reduces=2"], b"the reducer is missing"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_started(
    cluster: LocalCluster, tmp_path: Path, words: list[str], complaint: bytes
) -> None:
    done = offerd(cluster, "mapreduce", "--mapper", "cat", "--output", str(tmp_path / "out"), *words)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_not_touched(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    words = [
        "--mapper",
        "cat",
        "--reducer",
        "cat",
        "--input",
        "/etc/hostname",
        "--output",
        str(tmp_path / "out"),
    ]
    assert offerd(cluster, "mapreduce", *words).returncode == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_scripts_are_shipped_and_count_and_know_their_properties(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    script = tmp_path / "a map \N{SNOWMAN}.sh"
    script.write_text(
        "#!/bin/sh\necho reporter:counter:Lines,read,$(wc -l) >&2\n"
        'echo "$my_property $mapreduce_task_ismap $mapreduce_job_reduces"\n'
    )
    (tmp_path / "in").write_text("a\nb\nc\n")
    done = offerd(
        cluster, "mapreduce", "--mapper", f"'{script.name}'", "--reducer", "cat", "--file", str(script), "-D", "my.property=x",
        "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "out") == [b"x true 1"]
    assert b"Lines / read = 3" in done.stdout
    assert offerd(cluster, "data", "ls", "-a").stdout.startswith(b"no sets")


def test_a_job_of_maps_alone_has_a_part_for_each_map(
    cluster: LocalCluster, texts: Path, tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", "tr a-z A-Z", "--reduces", "0", "--input", str(texts / "b.txt"),
        "--output", str(tmp_path / "out"), "--block-size", "1M",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "out") == (texts / "b.txt").read_bytes().upper().split(b"\n")[:-1]


def test_data_sets_are_read_where_they_lie(
    cluster: LocalCluster, texts: Path, expected: list[bytes], tmp_path: Path
) -> None:
    put = offerd(cluster, "data", "put", "--block-size", block(2), "--replicas", "1", "texts", str(texts))
    assert put.returncode == 0, put.stderr
    assert offerd(cluster, "data", "put", "texts", str(texts)).returncode == 2
    assert b"whole" in offerd(cluster, "data", "ls").stdout
    blocks_listed = offerd(cluster, "data", "ls", "texts").stdout.decode().splitlines()[1:]
    assert {line.split()[-1] for line in blocks_listed} == {"slave-1", "slave-2", "slave-3"}
    done = offerd(
        cluster, "mapreduce", "--mapper", SPLIT_WORDS, "--reducer", COUNT, "--input", "data:texts",
        "--output", str(tmp_path / "out"), "--reduces", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(lines_of(tmp_path / "out")) == expected
    assert b"locality  100%" in done.stdout
    assert offerd(cluster, "data", "rm", "texts").returncode == 0
    assert offerd(cluster, "data", "rm", "texts").returncode == 2


def test_lost_replicas_are_made_again_from_undamaged_ones(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"{number}\n" for number in range(1000)))
    hosts = blocks.hosts(cluster.address)
    stored = blocks.put("worn", [str(tmp_path / "in")], hosts, replicas=2, block_bytes=500)
    try:
        assert offerd(cluster, "data", "repair", "worn").stdout == b"worn: 0 replicas made, whole\n"
        blocks.remove("worn", hosts[:1])
        assert b"replicas missing" in offerd(cluster, "data", "ls").stdout
        lost = sum(hosts[0] in block.places for block in stored.blocks)
        done = offerd(cluster, "data", "repair", "worn")
        assert (done.returncode, done.stdout) == (0, b"worn: %d replicas made, whole\n" % lost)
        found = blocks.find("worn", hosts)
        assert found is not None
        assert found.short == 0
        # One block has only a damaged replica left, which is never copied.
        first = found.blocks[0]
        (file,) = cluster.base.glob(f"{first.places[0].hostname}/**/worn/{first.name}")
        file.chmod(0o600)
        file.write_bytes(b"x" * first.length)
        blocks.remove("worn", [host for host in hosts if host not in first.places[:1]])
        done = offerd(cluster, "data", "repair", "worn")
        assert done.returncode == 1
        assert (
            f"{first.name} of worn was not copied: on {first.places[0].hostname} it is damaged"
            in done.stderr.decode()
        )
    finally:
        blocks.remove("worn", hosts)
    assert offerd(cluster, "data", "repair", "worn").returncode == 2


def test_a_job_whose_tasks_fit_nowhere_says_so(cluster: LocalCluster, tmp_path: Path) -> None:
    job = begin(
        cluster, "mapreduce", "--cpus", "64", "--mapper", "cat", "--reducer", "cat", "--input", "/etc/passwd",
        "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert job.stderr is not None
    assert any(b"waiting: no slave has cpus=64" in line for line in job.stderr)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=30)
    assert job.returncode == 130


def test_ctrl_c_ends_the_job_and_its_tasks(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x\n")
    job = begin(
        cluster, "mapreduce", "--mapper", "sleep 600", "--reducer", "cat", "--name", "sleepy",
        "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"),
    )  # fmt: skip

    def runs() -> bool:
        return any(
            task["name"].startswith("sleepy") and task["state"] == "TASK_RUNNING"
            for task in listing(cluster, "tasks")["tasks"]
        )

    wait_until(runs, "the map to run")
    job.send_signal(signal.SIGINT)
    assert job.wait(20) == 130
    job.communicate()
    wait_until(lambda: not runs(), "the map to end")
    assert not (tmp_path / "out").exists()


def test_a_mapper_that_leaves_a_process_behind_has_ended_with_its_program(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", "cat; sleep 200 >/dev/null &", "--reducer", "cat; sleep 200 &",
        "--input", "/etc/hostname", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert (done.returncode, b"trouble" in done.stdout) == (0, False)
    assert lines_of(tmp_path / "out") == Path("/etc/hostname").read_bytes().splitlines()


def test_commands_have_the_submitters_umask(cluster: LocalCluster, tmp_path: Path) -> None:
    ours = os.umask(0o027)
    done = offerd(
        cluster, "mapreduce", "--mapper", 'cat >/dev/null; echo "m $(umask)"', "--combiner", 'cat; echo "c $(umask)"',
        "--reducer", 'cat; echo "r $(umask)"', "--input", "/etc/hostname", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    os.umask(ours)
    assert done.returncode == 0, done.stderr
    assert {line.rstrip(b"\t") for line in lines_of(tmp_path / "out")} == {b"m 0027", b"c 0027", b"r 0027"}


def test_fields_are_keys_as_in_hadoop_streaming_and_a_status_may_be_ignored(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    lines = [f"{a}.{b}.{c}" for a in range(5) for b in range(20) for c in "xy"]
    (tmp_path / "f").write_text("".join(f"{line}\n" for line in lines[::-1]))
    done = offerd(
        cluster, "mapreduce", "--mapper", "cat; exit 3", "--reducer", 'sed "s/^/$mapreduce_task_partition /"; exit 1',
        "--input", str(tmp_path / "f"), "--output", str(tmp_path / "out"), "--reduces", "3",
        "-D", "stream.non.zero.exit.is.failure=false",
        "-D", "stream.map.output.field.separator=.", "-D", "stream.num.map.output.key.fields=2",
        "-D", "mapreduce.map.output.key.field.separator=.",
        "-D", "mapreduce.partition.keypartitioner.options=-k1,1",
        "-D", "mapreduce.partition.keycomparator.options=-k1,1 -k2,2nr",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts: dict[str, list[str]] = {"0": [], "1": [], "2": []}
    for a in range(5):  # the hash of one digit is its code
        parts[str((ord("0") + a) % 3)] += [f"{a}.{b}\t" for b in range(19, -1, -1)]
    found = {number: (tmp_path / "out" / f"part-0000{number}").read_text().splitlines() for number in parts}
    for number, keys in parts.items():
        assert [line[:-1] for line in found[number]] == [f"{number} {key}" for key in keys for _ in "xy"]
    assert sorted(line[-1] for part in found.values() for line in part) == ["x"] * 100 + ["y"] * 100


def test_compressed_files_patterns_and_commas_are_input(cluster: LocalCluster, tmp_path: Path) -> None:
    base = tmp_path / "in"
    base.mkdir()
    (base / "a.gz").write_bytes(gzip.compress(b"a1\na2\n") + gzip.compress(b"a3\n"))
    (base / "b.xz").write_bytes(lzma.compress(b"b1"))
    (base / "c.txt").write_bytes(b"c1\n")
    (base / "d.bz2").write_bytes(bz2.compress(b"of the set alone\n"))
    assert offerd(cluster, "data", "put", "logs-1", str(base / "c.txt")).returncode == 0
    assert offerd(cluster, "data", "put", "logs-2", "--replicas", "1", str(base)).returncode == 0
    done = offerd(
        cluster, "mapreduce", "--mapper", "cat", "--reducer", "cat", "--output", str(tmp_path / "out"),
        "--input", f"{base}/{{a,b}}.*,data:logs-*", "--input", f"{base}/c.txt",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "out") == sorted(
        [*[b"a1", b"a2", b"a3", b"b1"] * 2, *[b"c1"] * 3, b"of the set alone"]
    )
    assert b"8 tasks" in done.stdout
    offerd(cluster, "data", "rm", "logs-1", "logs-2")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_slave_killed_in_the_middle_costs_no_line(
    texts: Path, answers: dict[str, list[bytes]], tmp_path: Path, name: str
) -> None:
    """Its map outputs are gone when the reducers want them, and its running maps never come back."""
    example, gate = EXAMPLES[name], tmp_path / "go"
    waits = f'case "$mapreduce_task_partition" in 0) while [ ! -e {gate} ]; do sleep 0.05; done;; esac; '
    job = mapreduce.Job(
        input=(str(texts),),
        output=str(tmp_path / "out"),
        mapper=waits + example.mapper,
        reducer=example.reducer,
        reduces=3,
        block_bytes=max(1, GENERATED_MB // 50) << 20,
        speculate=False,
    )
    options = ("--ping-interval", "200ms")
    with (
        LocalCluster(3, cpus="2", mem="1G", isolation="noop", master_options=options) as cluster,
        mapreduce.MapReduce(cluster.address) as framework,
    ):
        handle = framework.submit(job)
        wait_until(
            lambda: handle.progress.maps_done == handle.progress.maps - 1,
            "all other maps to be done",
            LIMIT_S,
        )
        cluster.kill_slave(1)
        gate.touch()
        summary = handle.result(2 * LIMIT_S)
    assert example.plain(lines_of(tmp_path / "out")) == answers[name]
    assert summary.counters["outputs lost"] > 0
