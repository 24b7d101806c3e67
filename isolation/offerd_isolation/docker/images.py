"""Find an image, or pull it: `never`, `if-absent` or `always`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offerd_isolation.base import IsolationError, Report, report_to_nobody
from offerd_isolation.docker.engine import Engine, EngineError, NotFound, Unreachable
from offerd_isolation.docker.references import complete

POLICIES = ("never", "if-absent", "always")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has."""

    digest: str  # the image that its name stands for now
    environment: dict[str, str]


def obtain(
    engine: Engine,
    name: str,
    policy: str,
    report: Report = report_to_nobody,
    cancelled: Callable[[], bool] = lambda: False,
) -> Image:
    """The image, pulled if the policy says so. Progress of a pull is passed to `report`; it ends early once `cancelled`.

    Raises `IsolationError`, whose text becomes the reason of a task's failure.
    """
    if policy not in POLICIES:
        raise IsolationError(f"pull policy {policy!r} is none of {', '.join(POLICIES)}")
    if policy == "always":
        _pull(engine, name, report, cancelled)
    try:
        return _inspect(engine, name)
    except NotFound:
        if policy != "if-absent":
            raise IsolationError(
                f"image {name} is not on this slave, and may not be pulled (policy {policy}); "
                f"load it with `docker load`, or allow --pull if-absent"
            ) from None
    _pull(engine, name, report, cancelled)
    return _inspect(engine, name)


def _pull(engine: Engine, name: str, report: Report, cancelled: Callable[[], bool]) -> None:
    try:
        engine.pull(name, report, cancelled)
    except Unreachable:
        raise
    except EngineError as error:
        raise IsolationError(f"image {name} cannot be had: {error}") from None


def _inspect(engine: Engine, name: str) -> Image:
    found = engine.call(f"image {name}", lambda api: api.inspect_image(complete(name)))
    words = (found.get("Config") or {}).get("Env") or []
    return Image(found["Id"], dict(word.split("=", 1) for word in words if "=" in word))
