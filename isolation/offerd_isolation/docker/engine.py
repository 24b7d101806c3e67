"""Calls to the Docker engine. As an engine may hang, each call has a thread of its own and a time-out."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from offerd_isolation.base import DEFAULT_OPTIONS, IsolationError
from offerd_isolation.docker.progress import PullProgress
from offerd_isolation.docker.references import complete

QUICK_TIMEOUT_S = 5.0
"""Time-out of calls that can be repeated later."""
REPORT_EVERY_S = 1.0
"""How often the progress of a pull is reported. A pull that is over sooner reports none."""
PULL_SILENCE_S = 120.0
"""A pull may take any time, but fails after so long without news: the engine reports each percent, each step and each retry."""
PULLS_AT_ONCE = 4
"""Other pulls wait: the engine fetches few layers at a time, and would report nothing about those that have to wait."""
LOOK_S = 0.25
"""How often a pull checks whether it was cancelled."""
R = TypeVar("R")


class EngineError(IsolationError):
    """The engine has refused or failed a call."""


class NotFound(EngineError):
    """The engine has no such container or image."""


class Conflict(EngineError):
    """The name is taken, or the container is being removed already."""


class Unreachable(EngineError):
    """The engine does not answer, or not in time: its state is unknown."""


class Engine:
    """The engine that DOCKER_HOST names, or that of the local socket. Methods may be called from any thread."""

    def __init__(
        self, timeout_s: float = DEFAULT_OPTIONS.engine_timeout_s, pull_silence_s: float = PULL_SILENCE_S
    ) -> None:
        self.address = os.environ.get("DOCKER_HOST", "") or "unix:///var/run/docker.sock"
        self._timeout_s = timeout_s
        self._pull_silence_s = pull_silence_s
        self._lock = threading.Lock()
        self._api: Any = None
        self._stuck: threading.Thread | None = None
        self._pulls = threading.Semaphore(PULLS_AT_ONCE)

    def call(self, what: str, function: Callable[[Any], R], timeout_s: float | None = None) -> R:
        """Call `function(api)` in a thread, with the SDK's `APIClient`. Raises `EngineError`, whose text begins with `what`.

        While a call that has timed out is still running, others fail at once, instead of each waiting for its own time-out.
        """
        limit_s = timeout_s or self._timeout_s
        self._raise_if_stuck(what)
        thread, outcome = self._begin(what, function)
        thread.join(limit_s)
        if not outcome:
            self._stuck = thread
            raise Unreachable(f"{what}: the Docker engine at {self.address} did not answer in {limit_s:g} s")
        return self._result(what, outcome)

    def ping(self) -> None:
        """Raises `EngineError` unless it answers soon."""
        self.call("ping", lambda api: api.ping(), QUICK_TIMEOUT_S)

    def pull(
        self,
        image: str,
        report: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Fetch an image from its registry. This may take any time while it makes progress, which is passed to `report`. It
        ends early once it is `cancelled`. Raises `EngineError`."""
        if not self._pulls.acquire(timeout=LOOK_S):
            report(f"pulling {image}: waits for other pulls")
            while not self._pulls.acquire(timeout=LOOK_S):
                _raise_if(cancelled, f"pull {image}")
        try:
            self._pull(image, report, cancelled)
        finally:
            self._pulls.release()

    def _pull(self, image: str, report: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
        what = f"pull {image}"
        over = threading.Event()
        lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

        def work(api: Any) -> None:
            # Without a tag the engine would fetch all tags.
            name, tag = split_tag(complete(image))
            for line in api.pull(name, tag=tag, stream=True, decode=True):
                if over.is_set():
                    return  # the engine gives up a pull whose answer is not read
                if "error" in line:
                    raise EngineError(str(line["error"]))
                lines.put(line)

        self._raise_if_stuck(what)
        _, outcome = self._begin(what, work, lambda: lines.put(None))
        try:
            self._follow(what, PullProgress(image), lines, report, cancelled)
        finally:
            over.set()
        self._result(what, outcome)

    def _follow(
        self,
        what: str,
        progress: PullProgress,
        lines: SimpleQueue[dict[str, Any] | None],
        report: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Read lines until the last one, and report progress once a second. Raises `EngineError` if none comes for too long."""
        heard_at = time.monotonic()
        report_at = heard_at + REPORT_EVERY_S
        is_news = False
        while True:
            _raise_if(cancelled, what)
            until = report_at if is_news else heard_at + self._pull_silence_s
            try:
                line = lines.get(timeout=min(LOOK_S, max(0.0, until - time.monotonic())))
            except Empty:
                if not is_news and time.monotonic() >= until:
                    # It may be the registry's fault, so the engine is not counted as stuck.
                    silence = f"nothing was heard of it for {self._pull_silence_s:g} s"
                    raise EngineError(f"{what}: {silence}; {progress.text()}") from None
            else:
                if line is None:
                    return
                heard_at, is_news = time.monotonic(), True
                progress.note(line)
            if is_news and time.monotonic() >= report_at:
                report(progress.text())
                report_at, is_news = time.monotonic() + REPORT_EVERY_S, False

    def _raise_if_stuck(self, what: str) -> None:
        if self._stuck is not None and self._stuck.is_alive():
            raise Unreachable(f"{what}: the Docker engine at {self.address} still does not answer")

    def _begin(
        self, what: str, function: Callable[[Any], R], ended: Callable[[], None] = lambda: None
    ) -> tuple[threading.Thread, list[R | BaseException]]:
        """Run it in a thread of its own, which ends with one item in the list: the result, or the exception."""
        outcome: list[R | BaseException] = []

        def work() -> None:
            try:
                outcome.append(function(self._client()))
            except BaseException as error:  # marked: the caller raises it
                outcome.append(error)
            ended()

        thread = threading.Thread(target=work, name=f"docker: {what}", daemon=True)
        thread.start()
        return thread, outcome

    def _result(self, what: str, outcome: list[R | BaseException]) -> R:
        if isinstance(result := outcome[0], BaseException):
            raise self._translated(what, result) from None
        return result

    def _client(self) -> Any:
        """Made at the first call: importing the SDK takes 0.2 s, and asking for the version may hang."""
        with self._lock:
            if self._api is None:
                import docker
                import docker.utils

                named = docker.utils.kwargs_from_env()
                self._api = docker.APIClient(
                    **{"base_url": self.address, **named}, version="auto", timeout=self._timeout_s
                )
                weakref.finalize(self, self._api.close)
            return self._api

    def _translated(self, what: str, error: BaseException) -> BaseException:
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        if isinstance(error, EngineError):
            return EngineError(f"{what}: {error}")
        if isinstance(error, docker.errors.APIError):
            text = f"{what}: {error.explanation or error}"
            kinds = {404: NotFound, 409: Conflict}
            return kinds.get(error.status_code or 0, EngineError)(text)
        # A streamed answer is not read through requests: a broken one raises errors of urllib3, or ends in half a line of JSON.
        away = (
            docker.errors.DockerException,
            docker.errors.StreamParseError,
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            HTTPException,
            ValueError,
            OSError,
        )
        if isinstance(error, away):
            return Unreachable(f"{what}: no Docker engine answers at {self.address}; is dockerd running?")
        return error


def _raise_if(cancelled: Callable[[], bool], what: str) -> None:
    if cancelled():
        raise EngineError(f"{what}: cancelled, as its container is not wanted any more")


def split_tag(image: str) -> tuple[str, str]:
    """`registry:5000/name:1` gives `registry:5000/name` and `1`. The default tag is `latest`; a digest counts as a tag."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")
