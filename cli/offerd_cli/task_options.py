"""Options of all commands that start tasks: the size of a task, its time limit, where it runs, and its environment."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_cli.options import DURATION, cwd_option, given, role_option
from offerd_cli.units import own_umask, parse_pairs, task_resources, traveling

F = TypeVar("F", bound=Callable[..., Any])

RUNS_IMAGES = {"images": "yes"}
"""Attribute of slaves whose isolation module runs images."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options given. `attributes`: those that a slave must have; `directory`: "" means an empty one of the task's own."""

    resources: Resources
    time_limit_s: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = ""
    umask: int | None = None
    user: str = ""
    role: str = "*"
    name: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    image: str = ""
    pull: str = ""


def placement_options(command: F) -> F:
    """Add `--user`, `--role`, `--attributes`: as which user, in which role and where tasks run."""
    return _in_order(user_option, role_option, attributes_option)(command)


def task_options(*, cpus: str, mem: str, each: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add all of them to a command, which gets them as one `task: TaskOptions`. `cpus` and `mem`: defaults for `each`."""
    options: Callable[[Callable[..., int]], Callable[..., int]] = _in_order(
        *_size_options(cpus, mem, each), env_option, placement_options, name_option("the command"), *_PLACES
    )

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def with_task(**words: Any) -> int:
            task = _read_task(**{name: words.pop(name) for name in _NAMES})
            return command(task=task, **words)

        return options(with_task)

    return decorate


_NAMES = (
    "cpus",
    "mem",
    "timeout",
    "is_long",
    "env",
    "user",
    "role",
    "name",
    "attributes",
    "image",
    "pull",
    "cwd",
)


def _read_task(
    *,
    cpus: str,
    mem: str,
    timeout: float | None,
    is_long: bool,
    env: tuple[str, ...],
    user: str,
    role: str,
    name: str,
    attributes: str,
    image: str,
    pull: str | None,
    cwd: str,
) -> TaskOptions:
    if is_long and timeout is not None:
        raise BadInput("--long means no time limit, and --timeout gives one; choose one of them")
    if timeout is not None and timeout <= 0:
        raise BadInput("--timeout must be longer than 0s")
    if pull is not None and not image:
        raise BadInput("--pull needs an image; name it with --image")
    return TaskOptions(
        resources=task_resources(cpus, mem),
        time_limit_s=timeout,
        environment=read_environment(env),
        directory=traveling(os.path.abspath(cwd)) if cwd else "",
        umask=own_umask(),
        user=user,
        role=role,
        name=name,
        attributes=read_attributes(attributes) | (RUNS_IMAGES if image else {}),
        image=image,
        pull=pull or "",
    )


def _size_options(cpus: str, mem: str, each: str) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--cpus",
            default=cpus,
            show_default=True,
            metavar="CPUS",
            help=f"CPUs for each {each}, for example 0.5.",
        ),
        click.option(
            "--mem",
            default=mem,
            show_default=True,
            metavar="SIZE",
            help=f"Memory for each {each}, for example 2G.",
        ),
        click.option(
            "--timeout",
            type=DURATION,
            help=f"Time limit after which each {each} is killed, for example 30s; if it is within the slave's short limit, "
            "the whole slave may be used.  [default: none]",
        ),
        click.option(
            "--long",
            "is_long",
            is_flag=True,
            help="Run without a time limit, as without --timeout, in the part of each slave for long tasks.",
        ),
    )


_PLACES: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--image",
        default="",
        callback=given,
        metavar="IMAGE",
        help="Run in a container of this image, on a slave that can run images.  [default: none]",
    ),
    click.option(
        "--pull",
        type=click.Choice(["never", "if-absent", "always"]),
        help="Fetch the image never, if it is absent on the host, or always.  [default: the slave's setting]",
    ),
    cwd_option,
)


def read_environment(words: tuple[str, ...], what: str = "--env") -> dict[str, str]:
    """Read words like `KEY=VALUE`. Raises `BadInput`."""
    return parse_pairs(map(traveling, words), what)


def read_attributes(text: str) -> dict[str, str]:
    """Read `K=V,...` as in `--attributes`. Raises `BadInput`."""
    return parse_pairs([text] if text else [], "--attributes", commas=True)


def name_option(default: str) -> Callable[[F], F]:
    """`--name`; `default` is what the help says about its default."""
    return click.option(
        "--name", default="", metavar="NAME", help=f"Name to show in listings.  [default: {default}]"
    )


def _in_order(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Keep their help in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


env_option: Callable[[F], F] = click.option(
    "-e",
    "--env",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set this environment variable for the task; may be repeated.",
)
user_option: Callable[[F], F] = click.option(
    "--user",
    default="",
    callback=given,
    metavar="USER",
    help="Run as this user.  [default: the slave's default user]",
)
attributes_option: Callable[[F], F] = click.option(
    "--attributes",
    default="",
    metavar="K=V,...",
    help="Run only on slaves with these attributes, for example rack=7,gpu=yes.  [default: all slaves]",
)
