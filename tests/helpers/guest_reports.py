"""Kernel tests on a host without cgroup v2: they run in a guest (`helpers.guest`), all in one boot, and are reported here.

On the host a plugin of this kind starts the guest with the first kernel test that is due, and has pytest run those that
were selected; in the guest another writes each report to the port, as a line of JSON. The host's gives them to pytest as
if the tests had run here: output, durations, failures.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from helpers.guest import Guest, GuestFailed

TEST_LIMIT_S = 300.0
"""Time limit of one test in the guest (pytest-timeout): five times the slowest on an idle machine."""
SYSTEMD_TEST_LIMIT_S = 4000.0
"""The same under systemd, where a test waits for several daemons."""
SILENCE_S = 60.0
"""A guest whose kernel runs is not silent for longer than this and the limit of a test."""
MOST_GUESTS = 3
"""The most guests in one run. A guest whose emulated processors lock up is replaced: no test is to blame."""
PASSED_ON = ("CI", "OFFERD_ALL_STEPS", "OFFERD_SYSTEMD")
"""Variables of this host that change which tests there are, or what a skip means."""


class InGuest:
    """Writes every report of a test to the port."""

    def __init__(self, port: str, config: pytest.Config) -> None:
        self._config = config
        self._file = open(port, "w", buffering=1)  # noqa: SIM115  # until the guest ends

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")


class OnHost:
    """Has the tests run in a guest, and replays what it reports."""

    def __init__(self, config: pytest.Config, *, systemd: bool = False) -> None:
        self._config = config
        self._systemd = systemd
        self._limit_s = SYSTEMD_TEST_LIMIT_S if systemd else TEST_LIMIT_S
        self._guest: Guest | None = None
        self._failure = ""
        self.lockups: list[str] = []
        """The tests in which a guest locked up and was replaced."""
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def run(self, item: pytest.Item, selected: list[pytest.Item]) -> list[pytest.TestReport]:
        """The reports of a test: of its setup, of itself, of its teardown."""
        while not self._failure:
            try:
                if self._guest is None:
                    self._guest = self._start(selected[selected.index(item) :])
                return self._wait_for(item)
            except GuestFailed as error:
                self.close()
                self._reports.clear()
                if error.locked_up and len(self.lockups) < MOST_GUESTS - 1:
                    self.lockups.append(f"{item.nodeid}\n{error}")
                    continue
                self._failure = f"the guest broke down in or before {item.nodeid}"
                return [_report(item, "failed", str(error))]
        return [_report(item, "skipped", (str(item.path), 0, f"Skipped: {self._failure}"))]

    def _start(self, selected: list[pytest.Item]) -> Guest:
        words = ["env", *(f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ)]
        words += [".venv/bin/python", "-m", "pytest", "-v", "--color=no"]
        words += ["-p", "no:cacheprovider", "-o", f"timeout={self._limit_s}", "--basetemp=/run/tmp/pytest"]
        if seed := self._config.getoption("--hypothesis-seed", None):
            words.append(f"--hypothesis-seed={seed}")
        capturing = self._config.pluginmanager.getplugin("capturemanager")
        with capturing.global_and_fixture_disabled():
            guest = Guest([*words, *(item.nodeid for item in selected)], systemd=self._systemd)
            try:
                guest.wait_booted()
            except GuestFailed:
                guest.close()
                raise
        return guest

    def _wait_for(self, item: pytest.Item) -> list[pytest.TestReport]:
        assert self._guest is not None
        while True:
            found = self._reports.get(item.nodeid, [])
            if found and found[-1].when == "teardown":
                return self._reports.pop(item.nodeid)
            line = self._guest.read(self._limit_s + SILENCE_S)
            if line is None or line.startswith("exit "):
                raise GuestFailed(f"the guest ended in the middle of this test\n{self._guest.console()}")
            report = self._config.hook.pytest_report_from_serializable(
                config=self._config, data=json.loads(line)
            )
            if isinstance(report.longrepr, list):  # a tuple, which JSON has made a list
                report.longrepr = tuple(report.longrepr)
            self._reports.setdefault(report.nodeid, []).append(report)

    def close(self) -> None:
        if self._guest is not None:
            self._guest.close()
            self._guest = None


def _report(item: pytest.Item, outcome: Any, text: Any) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, text, "call")
