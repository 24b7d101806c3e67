"""Shared by all rings of tests: Hypothesis' profile, the marker `root`, and no silent skips under CI."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator

import pytest
from hypothesis import settings

from helpers import leftovers

# If the tests run in the background, SIGINT may be ignored, and all programs that they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Clients look for keys in a store of credentials, which must not be that of the account that runs the tests.
CONFIG = tempfile.mkdtemp(prefix="offerd-config-")
os.environ["OFFERD_CONFIG"] = CONFIG
for name in ("OFFERD_MASTER", "OFFERD_KEY", "OFFERD_MASTER_KEY"):
    os.environ.pop(name, None)

UNDER_CI = os.environ.get("CI") == "true"

# A deadline would measure the load of the machine, not the code. Under CI the same examples run every time, so
# that a failure is due to the change.
settings.register_profile("offerd", deadline=None, print_blob=True, derandomize=UNDER_CI)
settings.load_profile("offerd")


def pytest_unconfigure() -> None:
    """Remove the store of credentials of this run."""
    shutil.rmtree(CONFIG, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `root` for other users."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs uid 0"))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under CI turn a skip into a failure: a test that never runs proves nothing."""
    if UNDER_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI counts as a failure: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """End the programs that a failed test has started, so that they do not disturb others."""
    with leftovers.ended_if_it_fails():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself, or is skipped by a marker."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module that skips itself while it is imported."""
    report = yield
    refuse_skip(report)
    return report
