"""What daemons record: on request, by a signal, and when something fails."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import begin, listing, offerd, wait_until
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


def recordings(cluster: LocalCluster) -> list[Path]:
    return sorted(cluster.base.rglob("*.recording"))


def test_a_task_is_found_in_what_the_master_has_recorded(cluster: LocalCluster) -> None:
    recording = begin(cluster, "debug", "record", "--for", "4s", "--json")
    done = offerd(cluster, "run", "--name", "story", "--timeout", "20s", "--", "echo", "told")
    assert done.stdout == b"told\n", done.stderr
    out, err = recording.communicate(timeout=60)
    assert recording.returncode == 0, err
    made = json.loads(out)
    assert made["can_be_replayed"]
    assert Path(made["path"]).stat().st_mode & 0o077 == 0
    shown = offerd(cluster, "debug", "replay", made["path"], "--grep", "story-", "--full")
    assert shown.returncode == 0, shown.stderr
    for word in (b"AcceptOffers", b"    -> Send(peer=", b"RunTasks", b"state=FINISHED"):
        assert word in shown.stdout
    told = offerd(cluster, "debug", "replay", made["path"], "--json")
    assert not [step for step in map(json.loads, told.stdout.splitlines()) if "fault" in step]


def test_a_signal_has_the_master_write_what_it_has(cluster: LocalCluster) -> None:
    before = recordings(cluster)
    cluster.master.signal(signal.SIGUSR2)
    wait_until(lambda: len(recordings(cluster)) > len(before), "the recording to be written")
    newest = max(recordings(cluster), key=lambda path: path.stat().st_mtime_ns)
    shown = offerd(cluster, "debug", "replay", str(newest))
    assert shown.returncode == 0, shown.stderr
    assert b"RegisterSlave" in shown.stdout
    assert len(listing(cluster, "slaves")["slaves"]) == 1


def test_what_cannot_be_recorded_is_said_in_one_line(cluster: LocalCluster) -> None:
    done = offerd(cluster, "debug", "record", "--for", "1s", "--slave", "nowhere")
    assert (done.returncode, done.stderr) == (
        1,
        b"offerd: no slave nowhere is registered; `offerd slaves` lists them\n",
    )
    done = offerd(cluster, "debug", "replay", __file__)
    assert done.returncode == 2
    assert done.stderr.startswith(b"offerd: this is no recording")
