"""Choose a slave's isolation module: by name, or the best that this host supports."""

from __future__ import annotations

from pathlib import Path

from offerd.daemons.chosen_modules import Kind, load
from offerd.errors import BadInput
from offerd_isolation.base import DEFAULT_OPTIONS, Isolation, IsolationOptions

KIND = Kind(
    "isolation module",
    "offerd.isolation",
    {
        "cgroups": "offerd_isolation.cgroups.module:CgroupsIsolation",
        "docker": "offerd_isolation.docker.module:DockerIsolation",
        "noop": "offerd_isolation.noop:NoopIsolation",
    },
    more=("auto",),
)
BEST_FIRST = ("cgroups", "docker", "noop")
"""The order in which `auto` tries them; modules of third parties are only used when they are named."""


def module(name: str) -> type[Isolation]:
    """The installed isolation module of this name. Raises `BadInput` naming those there are, or what is wrong with it."""
    found: type[Isolation] = load(KIND, name, Isolation)
    return found


def choose(name: str, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> tuple[Isolation, str]:
    """The module of this name, or for `auto` the first of `BEST_FIRST` that this host supports (one that runs images
    only if there is a default image); and one sentence that says why.

    Raises `BadInput` for an unknown name, or a module that this host does not support.
    """
    if name != "auto":
        chosen = module(name)
        if (missing := chosen.available()) and not chosen.can_resume(work_dir):
            raise BadInput(f"isolation {name} cannot be used here: {missing}")
        return chosen(work_dir, options), missing or "as asked for"
    passed_over: list[str] = []
    for candidate in BEST_FIRST:
        kind = module(candidate)
        if kind.runs_images and not options.image:
            continue  # most frameworks name no image, and their tasks would fail
        missing = kind.available()
        if not missing:
            return kind(work_dir, options), "; ".join(passed_over) or "the best there is"
        passed_over.append(f"not {candidate}: {missing}")
    raise BadInput(f"no isolation module can be used here: {'; '.join(passed_over)}")
