"""The gateway's page in a real browser, on a cluster of real processes: what happens is seen without a reload."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect

from helpers.browser import Watched, chromium
from helpers.cli import begin, wait_until
from offerd_cli.local_cluster import LocalCluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two masters, two slaves, and a gateway whose port remains the same when it starts again."""
    options = ("--max-failover-timeout", "30s")
    with LocalCluster(
        2, cpus="4", mem="512M", masters=2, zk="auto", web_port=free_port(), master_options=options
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(cluster: LocalCluster, browser: Browser) -> Iterator[Watched]:
    with Watched(browser, cluster.web_address) as page:
        yield page


@contextmanager
def running(cluster: LocalCluster, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`offerd run` with these words, until the block ends."""
    client = begin(cluster, "run", *words)
    try:
        yield client
    finally:
        client.terminate()
        client.communicate(timeout=30)


def test_what_begins_is_seen_without_a_reload(cluster: LocalCluster, page: Watched) -> None:
    page.sees(".tile", re.compile(r"Slaves\s*2"))
    page.page.evaluate("window.isStillThis = true")
    with running(cluster, "-n", "3", "--timeout", "10m", "--", "sleep", "600"):
        page.sees(".tile", re.compile(r"Running\s*3"))
        page.sees(".lately", "framework sleep has registered")
        page.page.click("text=Lanes")
        page.page.wait_for_selector(".lane canvas")
        wait_until(
            lambda: page.page.evaluate(
                "[...offerdLanes.layout.lanes].filter((each) => each.lane?.rows.length).length"
            ),
            "bars in lanes",
        )
        page.shot("lanes")
    page.page.click("text=Overview")
    page.sees(".tile", re.compile(r"Running\s*0"))
    assert page.page.evaluate("window.isStillThis")


def test_shares_move_while_two_frameworks_compete(cluster: LocalCluster, page: Watched) -> None:
    page.sees(".tile", "Running")
    with running(cluster, "-n", "8", "--timeout", "50s", "--", "sleep", "600"):
        wait_until(lambda: max(page.shares().values(), default=0) > 0.9, "one to hold everything")
        with running(cluster, "-n", "20", "--cpus", "0.5", "--timeout", "50s", "--", "sleep", "1"):
            page.sees(".overview", "below its share for")
            page.page.locator(".overview .framework").nth(1).click()
            page.sees(".why", re.compile("slaves?: "))
            page.shot("framework")
    page.page.click("text=Overview")
    wait_until(lambda: not any(page.shares().values()), "nobody to hold anything")


def test_a_log_is_followed_as_text(cluster: LocalCluster, page: Watched) -> None:
    script = r"i=0; while sleep 0.2; do i=$((i + 1)); printf '\033[31m<b>line</b>\033[0m %s\n' $i; done"
    with running(cluster, "--timeout", "50s", "--", "sh", "-c", script):
        page.open("tasks?state=running", ".table-body .row a")
        page.page.locator(".table-body .row a").first.click()
        page.sees(".log pre", "<b>line</b> 3")
        page.sees(".log pre", "<b>line</b> 9")
        page.sees(".log-said", "followed live")
        assert page.page.locator(".log pre b").count() == 0
        assert page.page.locator(".log .t-fg-1").count() > 2
        page.shot("task")
        page.page.click("text=Files")
        page.sees(".files", "stdout")


def test_a_task_is_killed_after_a_question(cluster: LocalCluster, page: Watched) -> None:
    with running(cluster, "--timeout", "50s", "--", "sleep", "600") as client:
        page.open("tasks?state=running", ".table-body .row a")
        page.page.locator(".table-body .row a").first.click()
        name = page.page.locator("h1").inner_text()
        page.page.click("text=Kill…")
        page.sees("dialog", f"Kill task {name}?")
        page.page.click("text=Kill the task")
        page.page.locator("dialog").wait_for(state="detached")
        page.sees(".title .state", "killed")
        client.wait(30)


def test_a_drained_slave_is_activated_again(cluster: LocalCluster, page: Watched) -> None:
    page.open("slaves", "text=slave-1")
    page.page.click("text=slave-1")
    page.page.click("text=Drain…")
    page.sees("dialog", "Drain slave-1?")
    page.page.click("text=Drain the slave")
    page.sees(".title .state", "drained")
    page.page.click("text=Activate…")
    page.page.click("text=Activate the slave")
    page.sees(".title .state", re.compile("^active"))


def test_a_page_that_is_opened_later_shows_what_was(cluster: LocalCluster, page: Watched) -> None:
    kept = "fetch('/v1/shares').then((answer) => answer.json()).then((found) => found.points.length)"
    with running(cluster, "-n", "24", "--timeout", "50s", "--", "sleep", "4"):
        wait_until(lambda: page.page.evaluate(kept), "the history to have a share")
    page.page.reload()
    page.sees(".tile", "Running")
    store = "import('/page/store.js').then(({store}) => "
    points = f"{store}store.samples.past.some((point) => Object.keys(point.shares).length))"
    wait_until(lambda: page.page.evaluate(points), "shares of the past")
    page.page.click("text=Lanes")
    page.page.wait_for_selector(".lane canvas")
    page.page.locator(".lanes-scroll").focus()
    page.page.keyboard.press("ArrowLeft")
    page.page.locator(".lanes button:enabled", has_text="Live").wait_for()
    bars = f"{store}[...store.bars.lanes.values()].flatMap((lane) => lane.rows.flat()).length)"
    wait_until(lambda: page.page.evaluate(bars) > 8, "ended tasks in lanes")
    page.page.keyboard.press("Home")
    page.page.locator(".lanes button:disabled", has_text="Live").wait_for()


def test_the_gateway_is_killed_and_returns(cluster: LocalCluster, browser: Browser) -> None:
    assert cluster.web is not None
    with Watched(browser, cluster.web_address, may_be_away=True) as page:
        page.sees(".tile", re.compile(r"Slaves\s*2"))
        cluster.web.signal(signal.SIGKILL)
        cluster.web.wait(10)
        page.sees(".bar", re.compile(r"The gateway does not answer.*tries again by itself"))
        page.sees(".master", "not live")
        page.shot("away")
        cluster.web.start()
        page.page.locator(".bar").wait_for(state="detached", timeout=40_000)
        expect(page.page.locator(".tile").first).to_have_text(re.compile(r"Slaves\s*2"))


def test_another_master_is_followed(cluster: LocalCluster, browser: Browser) -> None:
    with Watched(browser, cluster.web_address, may_be_away=True) as page:
        page.sees(".master", "live")
        with running(cluster, "--timeout", "50s", "--", "sleep", "600"):
            page.sees(".tile", re.compile(r"Running\s*1"))
            cluster.kill_leader()
            page.sees(".bar", "The gateway does not follow the master")
            page.sees(".lately", "another master leads")
            page.page.locator(".bar").wait_for(state="detached", timeout=40_000)
            page.sees(".tile", re.compile(r"Running\s*1"))


def test_a_lost_slave_is_seen(cluster: LocalCluster, page: Watched) -> None:
    page.sees(".tile", re.compile(r"Slaves\s*2"))
    cluster.kill_slave(1)
    page.sees(".tile", re.compile("1 (silent|lost)"))
    page.sees(".lately", "slave-2 is lost")
    page.sees(".warnings", "1 slave lost")
    page.page.click("text=Lanes")
    page.sees(".lane-label", re.compile(r"slave-2\s*lost"))
    page.shot("lost")
