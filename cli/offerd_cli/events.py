"""Events of the cluster as lines: sentences for people, JSON documents for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime

import click
import msgspec
from rich.text import Text

from offerd.cluster_events import ClusterEvent
from offerd_cli import render
from offerd_cli.screen import say

_OF_SLAVES = {
    "slave-registered": "has registered",
    "slave-lost": "is lost, with its tasks",
    "slave-active": "is offered again",
    "slave-deactivated": "is not offered any more",
    "slave-draining": "is being drained",
    "slave-drained": "is drained",
    "slave-silent": "is silent",
    "slave-heard": "is heard again",
    "slave-disk-full": "has a full disk, and is not offered",
    "slave-disk-free": "has room on its disk again",
    "slave-forgotten": "is forgotten",
}
_OF_FRAMEWORKS = {
    "framework-registered": "has registered",
    "framework-active": "has a scheduler again",
    "framework-disconnected": "has no scheduler",
    "framework-ended": "has ended",
}
_OF_TASKS = {
    "task-launched": "is launched",
    "task-running": "runs",
    "task-unreachable": "is unreachable",
    "task-being-killed": "is being killed",
}
_GOOD = {"slave-registered", "slave-heard", "slave-disk-free", "task-running"}
_BAD = {
    "slave-lost",
    "slave-silent",
    "slave-disk-full",
    "framework-disconnected",
    "task-unreachable",
    "ends-missed",
}


def sentence(event: ClusterEvent) -> str:
    """The event in words."""
    if event.event in _OF_SLAVES:
        return f"slave {event.hostname or event.slave_id} {_OF_SLAVES[event.event]}"
    if event.event in _OF_FRAMEWORKS:
        return f"framework {event.framework_name} ({event.framework_id}) {_OF_FRAMEWORKS[event.event]}"
    if event.event == "master-leads":
        return f"master {event.master_id} leads"
    if event.event == "ends-missed":
        return f"the ends of {event.count} tasks are missing: the master does not remember them"
    task = f"task {event.task_id} of {event.framework_name or event.framework_id}"
    where = f"on {event.hostname or event.slave_id}"
    if event.event in _OF_TASKS:
        return f"{task} {_OF_TASKS[event.event]} {where}"
    why = render.why(event.reason, event.message)
    how = f"{event.state.removeprefix('TASK_').lower()} {where}"
    return f"{task} {how}: {why}" if why else f"{task} {how}"


def _style(event: ClusterEvent) -> str:
    if event.event == "task-ended":
        return (
            "green" if event.state == "TASK_FINISHED" else "yellow" if event.state == "TASK_KILLED" else "red"
        )
    return "green" if event.event in _GOOD else "red" if event.event in _BAD else ""


class Printer:
    """Prints the events that were asked for. What happened before the first answer waits until all is known."""

    def __init__(self, framework: str, host: str, *, as_json: bool) -> None:
        self._framework, self._host, self._as_json = framework, host, as_json
        self._past: list[tuple[float, ClusterEvent]] | None = []
        self._console = render.console()
        self._is_empty = True

    def add(self, events: Iterable[ClusterEvent], *, is_all: bool) -> None:
        """`is_all`: the master has sent everything up to now."""
        now = time.time()
        found = [(now - event.ago_s, event) for event in events if self._is_wanted(event)]
        if self._past is not None:
            self._past += found
            if not is_all:
                return
            found, self._past = sorted(self._past, key=lambda each: each[0]), None
        for at, event in found:
            self._print(at, event)

    def print_owner(self, owner: str) -> None:
        """At the end: that nothing was found, or that the key sees only a part."""
        if self._as_json:
            return
        if self._is_empty:
            say("no such events" if self._framework or self._host else "nothing has happened yet")
        render.print_owner(owner)

    def _is_wanted(self, event: ClusterEvent) -> bool:
        return (not self._framework or self._framework in (event.framework_id, event.framework_name)) and (
            not self._host or self._host in (event.slave_id, event.hostname)
        )

    def _print(self, at: float, event: ClusterEvent) -> None:
        self._is_empty = False
        if self._as_json:
            document = msgspec.to_builtins(event)
            document.pop("ago_s", None)
            when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            click.echo(json.dumps({"at": when, **document}))
            return
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
        self._console.print(
            Text.assemble((when, "dim"), "  ", (sentence(event), _style(event))), soft_wrap=True
        )
