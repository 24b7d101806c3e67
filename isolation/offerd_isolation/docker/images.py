"""Is the image here, or is it to be pulled: `never`, `if-absent` or `always`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offerd_isolation.base import IsolationError, Tell, tell_nobody
from offerd_isolation.docker.engine import Engine, EngineError, NotFound, Unreachable
from offerd_isolation.docker.references import complete

POLICIES = ("never", "if-absent", "always")


@dataclass(frozen=True, slots=True)
class Image:
    """What we need to know of one that is here."""

    digest: str  # what its name means now
    environment: dict[str, str]


def obtain(
    engine: Engine,
    name: str,
    policy: str,
    tell: Tell = tell_nobody,
    cancelled: Callable[[], bool] = lambda: False,
) -> Image:
    """The image, pulled if the policy says so; `tell` hears how far that is, and it is given up once it is `cancelled`.

    Raises `IsolationError` with the reason for a task's failure.
    """
    if policy not in POLICIES:
        raise IsolationError(f"pull policy {policy!r} is none of {', '.join(POLICIES)}")
    if policy == "always":
        _pull(engine, name, tell, cancelled)
    try:
        return _inspect(engine, name)
    except NotFound:
        if policy != "if-absent":
            raise IsolationError(
                f"image {name} is not on this slave, and may not be pulled (policy {policy}); "
                f"load it with `docker load`, or allow --pull if-absent"
            ) from None
    _pull(engine, name, tell, cancelled)
    return _inspect(engine, name)


def _pull(engine: Engine, name: str, tell: Tell, cancelled: Callable[[], bool]) -> None:
    try:
        engine.pull(name, tell, cancelled)
    except Unreachable:
        raise
    except EngineError as error:
        raise IsolationError(f"image {name} cannot be had: {error}") from None


def _inspect(engine: Engine, name: str) -> Image:
    found = engine.call(f"image {name}", lambda api: api.inspect_image(complete(name)))
    words = (found.get("Config") or {}).get("Env") or []
    return Image(found["Id"], dict(word.split("=", 1) for word in words if "=" in word))
