"""Calls to the Docker engine. Daemons hang: each call has a thread of its own, and nobody waits longer than its time-out."""

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
"""Of what can be done again later."""
TELL_EVERY_S = 1.0
"""How far a pull is. One that is over sooner is not worth a word."""
PULL_SILENCE_S = 120.0
"""A pull may take for ever, but not be silent so long: the engine tells of each percent, each step and each new try."""
PULLS_AT_ONCE = 4
"""Others wait for their turn: the engine fetches few layers at a time, and would be silent about those that have to wait."""
LOOK_S = 0.25
"""How soon a pull that nobody waits for any more is given up."""
R = TypeVar("R")


class EngineError(IsolationError):
    """The engine refused."""


class NotFound(EngineError):
    """There is no such container or image."""


class Conflict(EngineError):
    """The name is taken, or it is being removed already."""


class Unreachable(EngineError):
    """Nobody answers, or not in time: what the engine has or does is unknown."""


class Engine:
    """One engine: what DOCKER_HOST names, or the local socket. Methods may be called from any thread."""

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
        """`function(api)` with the SDK's `APIClient`, in a thread. Raises `EngineError`; `what` begins its text.

        While a call that took too long is still not over, others fail at once: a queue of them would wait for each in turn.
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
        tell: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Fetch an image from its registry, however long it takes as long as it goes on; `tell` hears how far it is. Given up
        once it is `cancelled`. Raises `EngineError`."""
        if not self._pulls.acquire(timeout=LOOK_S):
            tell(f"pulling {image}: waits for other pulls")
            while not self._pulls.acquire(timeout=LOOK_S):
                _raise_if(cancelled, f"pull {image}")
        try:
            self._pull(image, tell, cancelled)
        finally:
            self._pulls.release()

    def _pull(self, image: str, tell: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
        what = f"pull {image}"
        over = threading.Event()
        lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

        def work(api: Any) -> None:
            # Without a tag the engine would fetch all of them.
            name, tag = split_tag(complete(image))
            for line in api.pull(name, tag=tag, stream=True, decode=True):
                if over.is_set():
                    return  # the engine, too, gives up what nobody reads
                if "error" in line:
                    raise EngineError(str(line["error"]))
                lines.put(line)

        self._raise_if_stuck(what)
        _, outcome = self._begin(what, work, lambda: lines.put(None))
        try:
            self._follow(what, PullProgress(image), lines, tell, cancelled)
        finally:
            over.set()
        self._result(what, outcome)

    def _follow(
        self,
        what: str,
        progress: PullProgress,
        lines: SimpleQueue[dict[str, Any] | None],
        tell: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Until the last line. Tells the news once a second. Raises `EngineError` when none came for too long."""
        heard_at = time.monotonic()
        tell_at = heard_at + TELL_EVERY_S
        is_news = False
        while True:
            _raise_if(cancelled, what)
            until = tell_at if is_news else heard_at + self._pull_silence_s
            try:
                line = lines.get(timeout=min(LOOK_S, max(0.0, until - time.monotonic())))
            except Empty:
                if not is_news and time.monotonic() >= until:
                    # It may be the registry's fault, so other calls are tried nonetheless.
                    silence = f"nothing was heard of it for {self._pull_silence_s:g} s"
                    raise EngineError(f"{what}: {silence}; {progress.text()}") from None
            else:
                if line is None:
                    return
                heard_at, is_news = time.monotonic(), True
                progress.note(line)
            if is_news and time.monotonic() >= tell_at:
                tell(progress.text())
                tell_at, is_news = time.monotonic() + TELL_EVERY_S, False

    def _raise_if_stuck(self, what: str) -> None:
        if self._stuck is not None and self._stuck.is_alive():
            raise Unreachable(f"{what}: the Docker engine at {self.address} still does not answer")

    def _begin(
        self, what: str, function: Callable[[Any], R], ended: Callable[[], None] = lambda: None
    ) -> tuple[threading.Thread, list[R | BaseException]]:
        """In a thread of its own, which ends with one thing in the list: the result, or what was raised."""
        outcome: list[R | BaseException] = []

        def work() -> None:
            try:
                outcome.append(function(self._client()))
            except BaseException as error:  # marked: it is raised again by the caller
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
        # A streamed answer is read past requests: what breaks off there is urllib3's, or half a line of JSON.
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
        raise EngineError(f"{what}: given up, as nobody waits for it any more")


def split_tag(image: str) -> tuple[str, str]:
    """`registry:5000/name:1` is `registry:5000/name` and `1`; without a tag it is `latest`; a digest is a tag."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")
