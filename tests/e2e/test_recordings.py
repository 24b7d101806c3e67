"""What daemons record: on request, by a signal, and when something fails."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.__main__ import keep_recordings
from helpers.cli import begin, listing, offerd, wait_until
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


def recordings(cluster: LocalCluster) -> list[Path]:
    return sorted(cluster.base.rglob("*.recording"))


@pytest.mark.parametrize(
    ("whose", "words"),
    [([], ("AcceptOffers", "-> Send(peer=")), (["--slave", "slave-1"], ("FromMaster", "-> SendToExecutor("))],
    ids=["the master's", "a slave's"],
)
def test_a_task_is_found_in_a_recording(
    cluster: LocalCluster, whose: list[str], words: tuple[str, ...]
) -> None:
    daemon = cluster.slaves[0] if whose else cluster.master
    recording = begin(cluster, "debug", "record", "--for", "6s", "--json", *whose)
    wait_until(lambda: "recording for 6 s" in daemon.log.read_text(), "it to have begun")
    done = offerd(cluster, "run", "--name", "story", "--timeout", "20s", "--", "echo", "output")
    assert done.stdout == b"output\n", done.stderr
    out, err = recording.communicate(timeout=60)
    assert recording.returncode == 0, err
    made = json.loads(out)
    assert made["can_be_replayed"]
    assert Path(made["path"]).stat().st_mode & 0o077 == 0
    shown = offerd(cluster, "debug", "replay", made["path"], "--grep", "story-", "--full")
    assert shown.returncode == 0, shown.stderr
    for word in (*words, "RunTasks", "state=FINISHED"):
        assert word in shown.stdout.decode()
    replayed = offerd(cluster, "debug", "replay", made["path"], "--json")
    assert not [step for step in map(json.loads, replayed.stdout.splitlines()) if "fault" in step]


@pytest.mark.parametrize("who", ["master", "slave"])
def test_at_a_signal_a_daemon_writes_its_recording(cluster: LocalCluster, who: str) -> None:
    before = recordings(cluster)
    daemon = cluster.master if who == "master" else cluster.slaves[0]
    daemon.signal(signal.SIGUSR2)
    wait_until(lambda: len(recordings(cluster)) > len(before), "the recording to be written")
    newest = max(recordings(cluster), key=lambda path: path.stat().st_mtime_ns)
    shown = offerd(cluster, "debug", "replay", str(newest), "--ticks")
    assert shown.returncode == 0, shown.stderr
    assert newest.name.startswith(f"{who}-")
    assert b" tick\n" in shown.stdout
    assert len(listing(cluster, "slaves")["slaves"]) == 1


def test_a_failed_recording_is_reported_in_one_line(cluster: LocalCluster) -> None:
    done = offerd(cluster, "debug", "record", "--for", "1s", "--slave", "nowhere")
    assert (done.returncode, done.stderr) == (
        1,
        b"offerd: no slave nowhere is registered; `offerd slaves` lists them\n",
    )
    done = offerd(cluster, "debug", "replay", __file__)
    assert done.returncode == 2
    assert done.stderr.startswith(b"offerd: this is not a recording")


@pytest.mark.parametrize("whose", [[], ["--slave", "slave-1"]], ids=["the master's", "a slave's"])
def test_a_recording_ends_when_whoever_asked_for_it_is_killed(
    cluster: LocalCluster, whose: list[str]
) -> None:
    daemon = cluster.slaves[0] if whose else cluster.master
    asked = begin(cluster, "debug", "record", "--for", "7m", *whose)
    wait_until(lambda: "recording for 420 s" in daemon.log.read_text(), "it to have begun")
    asked.kill()
    asked.communicate()
    wait_until(lambda: "a recording has ended early" in daemon.log.read_text(), "it to end")


def test_a_slave_that_dies_while_it_records_is_reported_at_once(cluster: LocalCluster) -> None:
    slave = cluster.slaves[0]
    asked = begin(cluster, "debug", "record", "--for", "8m", "--slave", "slave-1")
    wait_until(lambda: "recording for 480 s" in slave.log.read_text(), "it to have begun")
    slave.signal(signal.SIGKILL)
    _, err = asked.communicate(timeout=30)
    assert (asked.returncode, err) == (1, b"offerd: slave slave-1 was lost while it recorded\n")
    slave.wait(None)
    slave.start()
    cluster.wait_for_slaves(1)


def test_chaos_keeps_the_recording_of_each_daemon(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = keep_recordings(cluster)
    names = {path.name.split("-")[1 if path.name.startswith("keys") else 2] for path in kept.iterdir()}
    assert names == {"master", "slave"}
    assert all(offerd(cluster, "debug", "replay", str(path)).returncode == 0 for path in kept.iterdir())
