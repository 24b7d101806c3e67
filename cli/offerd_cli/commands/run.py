"""`offerd run`: a command on the cluster, as if it ran here."""

from __future__ import annotations

import os

import click

from offerd import standard_streams
from offerd.errors import BadInput
from offerd_cli.options import DURATION, cwd_option, master_option, role_option
from offerd_cli.units import own_umask, parse_pairs, task_resources, traveling


@click.command(
    short_help="Run a command on the cluster.", context_settings={"allow_interspersed_args": False}
)
@master_option
@click.option("--cpus", default="1", show_default=True, help="Of each instance, as 0.5.")
@click.option("--mem", default="128M", show_default=True, help="Of each instance, as 2G.")
@click.option(
    "-n", "--instances", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many times."
)
@click.option(
    "--timeout",
    type=DURATION,
    help="Kill it after this time; up to a slave's short limit it may use the whole slave.",
)
@click.option(
    "--long",
    "is_long",
    is_flag=True,
    help="No time limit (the default without --timeout): only the part for long tasks.",
)
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Add to its environment.")
@click.option("--user", default="", help="Run as this user.  [default: the slave's]")
@role_option
@click.option("--name", default="", help="What listings show.  [default: the command]")
@click.option("--attributes", default="", metavar="K=V,...", help="Only on slaves with these.")
@click.option("--image", default="", help="In a container of this image, on a slave that runs images.")
@click.option(
    "--pull",
    type=click.Choice(["never", "if-absent", "always"]),
    help="When the slave fetches the image from its registry.  [default: as the slave says]",
)
@click.option("--no-stream", is_flag=True, help="Print each instance's output when it has ended.")
@cwd_option
@click.argument("words", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def command(
    *,
    master: str,
    cpus: str,
    mem: str,
    instances: int,
    timeout: float | None,
    is_long: bool,
    env: tuple[str, ...],
    user: str,
    name: str,
    role: str,
    attributes: str,
    image: str,
    pull: str | None,
    no_stream: bool,
    cwd: str,
    words: tuple[str, ...],
) -> int:
    """Run CMD on the cluster, stream what it writes, and end with its exit status.

    \b
    offerd run -- sh -c 'echo hello from $(hostname)'
    offerd run --image debian:12 -- cat /etc/os-release
    offerd run --cpus 0.5 --timeout 30s -n 20 -C . -- ./simulate --seed 7
    It begins in an empty directory of its own; -C names another on the slave's host.
    An instance knows its number: OFFERD_INSTANCE is 1 to OFFERD_INSTANCES.

    Its standard input is empty: one that holds something is refused, as it would be lost.
    What it writes comes whole: it waits when we are slower. Output that is lost is said, and is never status 0.
    Exit status: the command's; 124 when its time limit was over, 127 when it could not be started, 128 + signal. With several
    instances 1 if any failed. 130 after Ctrl-C, when all are killed.
    """
    if is_long and timeout is not None:
        raise BadInput("--long means no time limit, and --timeout gives one; choose one of them")
    if timeout is not None and timeout <= 0:
        raise BadInput("--timeout must be more than nothing")
    if pull is not None and not image:
        raise BadInput("--pull is about an image; name it with --image")
    if standard_streams.holds_input():
        raise BadInput("standard input is not carried to the command: give it a file, and write </dev/null")
    from offerd_cli.running import Job, run_job

    return run_job(
        Job(
            master=master,
            words=list(map(traveling, words)),
            resources=task_resources(cpus, mem),
            instances=instances,
            time_limit_s=timeout,
            environment=parse_pairs(map(traveling, env), "--env"),
            directory=traveling(os.path.abspath(cwd)) if cwd else "",
            umask=own_umask(),
            user=user,
            name=name or words[0].rpartition("/")[2],
            role=role,
            attributes=parse_pairs([attributes] if attributes else [], "--attributes", commas=True),
            image=image,
            pull=pull or "",
            streams=not no_stream,
        )
    )
