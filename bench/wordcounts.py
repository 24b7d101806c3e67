"""Words counted by `offerd mapreduce`, by GNU tools with the same mapper and reducer, and by similar Python tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Bound, Findings, Row, Samples, beside
from machine import ROOT
from offerd.errors import OfferdError
from offerd_cli.local_cluster import LocalCluster

sys.path.insert(0, str(ROOT / "tests"))
from helpers.texts import generate

MAPPER, REDUCER = 'tr -s "[:space:]" "\\n"', "uniq -c"
SIZE_BYTES, QUICK_BYTES, PEERS_BYTES = 1_000_000_000, 100_000_000, 200_000_000
PEERS_RUNS = 3
DEADLINE_S = 600.0
PEERS = ("mrjob==0.7.4", "dask[bag]", "setuptools<81")

PIPELINE = """
export LC_ALL=C
split -n l/"$3" "$1" "$2/in."
ls "$2"/in.* | xargs -P2 -I{} sh -c 'tr -s "[:space:]" "\\n" < {} | sort > {}.sorted'
sort -m --batch-size=128 "$2"/in.*.sorted | uniq -c
"""
"""The pipeline that a person would write, with as many chunks as our maps, and its files merged in one pass."""

MRJOB = f"""
from mrjob.job import MRJob
class Count(MRJob):
    def mapper_cmd(self):
        return {MAPPER!r}
    def reducer_cmd(self):
        return {REDUCER!r}
if __name__ == "__main__":
    Count.run()
"""
DASK = """
import sys
import dask.bag
if __name__ == "__main__":
    words = dask.bag.read_text(sys.argv[1], blocksize="8MiB").map(str.split).flatten()
    for word, number in words.frequencies().compute(num_workers=2):
        print(number, word)
"""


def measure(quick: bool) -> Findings:
    """Measure in turn, on the same text and the same cores; every output is compared with the pipeline's."""
    size = QUICK_BYTES if quick else SIZE_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="offerd-bench-") as folder,
        LocalCluster(2, cpus="1", mem="4G", isolation="noop") as cluster,
    ):
        base = Path(folder)
        text = generate(base / "text", size)
        ours, pipelines = [], []
        for _ in range(2 if quick else 3):
            pipelines.append(_rate(text, lambda: pipeline(text, base)))
            ours.append(_rate(text, lambda: offerd(cluster.address, text, base)))
            _compare(base)
        text.unlink()
        findings = Findings(
            [
                _row(
                    f"word count of {size // 1_000_000:,} MB", ours, pipelines, "split | xargs -P2 | sort -m"
                ),
            ]
        )
        peers = base / "peers"
        try:
            _install(peers)
        except subprocess.SubprocessError:
            findings.notes.append("mrjob and dask were not measured: they could not be installed.")
            return findings
        peers_size = QUICK_BYTES if quick else PEERS_BYTES
        small = generate(base / "small", peers_size)
        pipeline(small, base)
        runs: list[tuple[str, Callable[[], None]]] = [
            ("mrjob -r local", lambda: mrjob(small, base, peers)),
            ("dask bag, 2 processes", lambda: dask(small, base, peers)),
        ]
        for name, run in runs:
            theirs, mine = [], []
            for _ in range(1 if quick else PEERS_RUNS):
                theirs.append(_rate(small, run))
                _compare(base)
                mine.append(_rate(small, lambda: offerd(cluster.address, small, base)))
                _compare(base)
            findings.rows.append(_row(f"word count of {peers_size // 1_000_000} MB", mine, theirs, name))
        return findings


def _row(what: str, ours: list[float], theirs: list[float], name: str) -> Row:
    bound = Bound(1.0, of_ratio=True)
    return Row(what, "MB/s", Samples.of(ours), Samples.of(theirs), name, beside(ours, theirs), bound)


def _rate(text: Path, run: Callable[[], None]) -> float:
    """Millions of bytes of input per second."""
    began = time.perf_counter()
    run()
    return text.stat().st_size / 1e6 / (time.perf_counter() - began)


def offerd(address: str, text: Path, base: Path) -> None:
    """The command, its own start and end included."""
    shutil.rmtree(base / "out", ignore_errors=True)
    words = ["mapreduce", "--master", address, "--mapper", MAPPER, "--reducer", REDUCER, "--reduces", "2"]
    words += ["--input", str(text), "--output", str(base / "out")]
    _run([sys.executable, "-m", "offerd_cli.main", *words], base / "said")


def pipeline(text: Path, base: Path) -> None:
    """GNU tools; the removal of their chunks is not timed."""
    chunks = base / "chunks"
    chunks.mkdir()
    number = max(8, text.stat().st_size >> 25)
    _run(["sh", "-euc", PIPELINE, "count", str(text), str(chunks), str(number)], base / "expected")
    shutil.rmtree(chunks)


def mrjob(text: Path, base: Path, peers: Path) -> None:
    """The same commands under mrjob's local runner, which uses all cores."""
    (base / "count.py").write_text(MRJOB)
    _run(
        [sys.executable, str(base / "count.py"), "-r", "local", "--quiet", str(text)], base / "theirs", peers
    )
    _as_ours(base)


def dask(text: Path, base: Path, peers: Path) -> None:
    """Python's own split and count, in two processes."""
    (base / "bag.py").write_text(DASK)
    _run([sys.executable, str(base / "bag.py"), str(text)], base / "theirs", peers)
    _as_ours(base)


def _as_ours(base: Path) -> None:
    shutil.rmtree(base / "out", ignore_errors=True)
    (base / "out").mkdir()
    (base / "theirs").rename(base / "out" / "part-00000")


def _run(words: list[str], output: Path, peers: Path | None = None) -> None:
    environment = dict(os.environ)
    if peers is not None:
        environment["PYTHONPATH"] = str(peers)
    with output.open("wb") as stdout:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=DEADLINE_S,
            check=False,
        )
    if done.returncode != 0:
        raise OfferdError(f"{words[1]}: {done.stderr.decode(errors='replace').strip()[-300:]}")


def _install(peers: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(peers), *PEERS],
        check=True,
        capture_output=True,
        timeout=DEADLINE_S,
    )


def _compare(base: Path) -> None:
    """Check that the counts equal the pipeline's."""
    expected = sorted(line.split() for line in (base / "expected").read_bytes().splitlines())
    parts = sorted((base / "out").glob("part-*"))
    found = sorted(line.split() for part in parts for line in part.read_bytes().splitlines())
    if [pair for pair in found if len(pair) == 2] != [pair for pair in expected if len(pair) == 2]:
        raise OfferdError("the counts differ from the pipeline's")
