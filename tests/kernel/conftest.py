"""The kernel ring: tests that need cgroup v2 with controllers, and root. `helpers.guest_reports` says where they run.

With OFFERD_SYSTEMD=1 it is `test_systemd*.py` alone, and always in a guest: it installs services.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers import guest
from helpers.guest_reports import InGuest, OnHost

HERE = Path(__file__).parent
WITH_SYSTEMD = bool(os.environ.get("OFFERD_SYSTEMD"))
RUN_HERE = guest.host_has_v2() and not (WITH_SYSTEMD and "OFFERD_GUEST_PORT" not in os.environ)
_on_host = pytest.StashKey[OnHost]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a guest: have reports written to its port. Where one is needed: it keeps the time limits, or is missing."""
    others = [item for item in items if item.path.is_relative_to(HERE) and not _is_due(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    port = os.environ.get("OFFERD_GUEST_PORT")
    if port and not config.pluginmanager.has_plugin("in-guest"):
        config.pluginmanager.register(InGuest(port, config), "in-guest")
    if RUN_HERE:
        return
    reason = guest.missing(systemd=WITH_SYSTEMD)
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason=reason) if reason else pytest.mark.timeout(0))


def _is_due(item: pytest.Item) -> bool:
    return item.path.name.startswith("test_systemd") == WITH_SYSTEMD


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Replay what the guest reports. (Pytest calls this one for the tests of every folder.)"""
    if RUN_HERE or not item.path.is_relative_to(HERE) or guest.missing(systemd=WITH_SYSTEMD):
        return None
    config = item.config
    on_host = config.stash.setdefault(_on_host, OnHost(config, systemd=WITH_SYSTEMD))
    selected = [each for each in item.session.items if each.path.is_relative_to(HERE)]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in on_host.run(item, selected):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which guests were replaced, and show where their kernels spun."""
    for lockup in on_host.lockups if (on_host := config.stash.get(_on_host, None)) else []:
        terminalreporter.section("a guest locked up and was replaced", sep="-")
        terminalreporter.line(lockup)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the guest, whatever has become of it."""
    if (on_host := session.config.stash.get(_on_host, None)) is not None:
        on_host.close()
