"""Which isolation module a slave uses: by name, or the best that this host can do."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from offerd.errors import BadInput
from offerd_isolation.base import DEFAULT_OPTIONS, Isolation, IsolationOptions

GROUP = "offerd.isolation"
BEST_FIRST = ("cgroups", "docker", "noop")
"""The order in which `auto` tries; modules of third parties are used when they are named."""


def modules() -> dict[str, type[Isolation]]:
    """Every installed module by its entry point's name."""
    return {point.name: point.load() for point in entry_points(group=GROUP)}


def choose(name: str, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> tuple[Isolation, str]:
    """The module of this name, or for `auto` the first of `BEST_FIRST` that this host can do (one with images
    only if there is a default image); and one sentence on why.

    Raises `BadInput` for a name that nobody provides, or a module that this host cannot do.
    """
    known = modules()
    if name != "auto":
        if name not in known:
            raise BadInput(
                f"no isolation module is called {name!r}; there are: {', '.join(sorted(known))}, auto"
            )
        if (missing := known[name].available()) and not known[name].can_resume(work_dir):
            raise BadInput(f"isolation {name} cannot be used here: {missing}")
        return known[name](work_dir, options), missing or "as asked for"
    passed_over: list[str] = []
    for candidate in BEST_FIRST:
        if candidate not in known:
            continue
        if known[candidate].runs_images and not options.image:
            continue  # most frameworks name no image, and their tasks would fail
        missing = known[candidate].available()
        if not missing:
            return known[candidate](work_dir, options), "; ".join(passed_over) or "the best there is"
        passed_over.append(f"not {candidate}: {missing}")
    raise BadInput(f"no isolation module can be used here: {'; '.join(passed_over)}")
