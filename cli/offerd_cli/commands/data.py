"""`offerd data`: place files on the slaves' disks in blocks, so that jobs read them locally."""

from __future__ import annotations

import time

import click

from offerd.errors import BadInput
from offerd_cli.fitting import Column
from offerd_cli.options import WholeNumber, master_option
from offerd_cli.render import FittedTable
from offerd_cli.screen import say
from offerd_cli.units import format_bytes, format_duration, parse_amount

owner_option = click.option(
    "--owner",
    metavar="OWNER",
    help="Owner of the sets, for operators.  [default: you]",
)


@click.group(short_help="Place files in blocks on the slaves, as data sets.")
def command() -> None:
    """Place files in blocks on the slaves, as data sets, for jobs that read them as --input data:SET.

    \b
    offerd data put logs /var/log
    offerd data ls logs
    """


@command.command(short_help="Place files as a data set.")
@click.option(
    "--replicas",
    type=WholeNumber(1, 100),
    default=2,
    metavar="N",
    help="Number of slaves that hold each block.  [default: 2, or 1 on one slave]",
)
@click.option(
    "--block-size",
    default="32M",
    show_default=True,
    metavar="SIZE",
    help="Size of each block, from 1K to 1G; a block ends at the end of a line.",
)
@master_option
@click.argument("name", metavar="SET")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.pass_context
def put(
    context: click.Context, *, master: str, replicas: int, block_size: str, name: str, paths: tuple[str, ...]
) -> None:
    """Cut files, or all files of directories, into blocks, and place each block on some slaves.

    \b
    offerd data put logs /var/log
    offerd data put --replicas 3 --block-size 64M texts a.txt b.txt.gz

    A file whose name ends in .gz, .bz2, .xz or .zst is one block; the job that reads it decompresses it.
    """
    from offerd_cli.screen import Screen
    from offerd_frameworks.mapreduce import blocks

    screen = Screen("offerd data put")
    on = blocks.hosts(master)
    if context.get_parameter_source("replicas") is click.core.ParameterSource.DEFAULT:
        replicas = min(replicas, len(on)) or 1
    block_bytes = parse_amount("disk", block_size, "--block-size")
    if not 0 < block_bytes <= blocks.MAX_BLOCK_BYTES:
        raise BadInput(f"--block-size {block_size} is out of range; give 1K to 1G")
    began = time.monotonic()
    found = blocks.put(
        name,
        paths,
        on,
        replicas=replicas,
        block_bytes=block_bytes,
        progress=lambda done, total: screen.progress(done >> 20, max(total >> 20, 1), text="MiB"),
    )
    screen.end_progress()
    say(
        f"{name}: {format_bytes(found.length)} in {len(found.blocks)} block{'s' * (len(found.blocks) != 1)}, "
        f"{replicas} replica{'s' * (replicas != 1)} on {len(on)} slave{'s' * (len(on) != 1)}, "
        f"in {format_duration(time.monotonic() - began)}",
        to_stdout=True,
    )


@command.command(short_help="List data sets, or the blocks of one.")
@click.option("-a", "--all", "shows_all", is_flag=True, help="List the files of running jobs, too.")
@owner_option
@master_option
@click.argument("name", required=False, metavar="[SET]")
def ls(*, master: str, shows_all: bool, owner: str | None, name: str | None) -> None:
    """List all data sets; or the blocks of one SET, and the slaves that have them now.

    \b
    offerd data ls
    offerd data ls logs
    """
    from offerd_cli import render
    from offerd_frameworks.mapreduce import blocks

    on = blocks.hosts(master, owner)
    if name is not None:
        blocks.check_name(name)
        found = blocks.find(name, on)
        if found is None:
            raise BadInput(f"there is no set {name}; `offerd data ls` lists all sets")
        table = _table("BLOCK", "SIZE", "SLAVES")
        for block in found.blocks:
            where = ", ".join(host.hostname for host in block.places) or "nowhere: lost"
            table.add_row(block.name, format_bytes(block.length), where)
        render.print_table(render.console(), table)
        return
    table = _table("SET", "SIZE", "BLOCKS", "REPLICAS", "PLACED", "STATE")
    for each in blocks.names(on):
        if each.startswith(blocks.JOB_PREFIX) and not shows_all:
            continue
        found = blocks.find(each, on)
        if found is None:
            table.add_row(
                each, "", "", "", "", "files of a job" if each.startswith(blocks.JOB_PREFIX) else "unfinished"
            )
            continue
        state = (
            f"{len(found.missing)} blocks lost"
            if found.missing
            else f"{found.short} replicas missing"
            if found.short
            else "whole"
        )
        placed = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.created_s))
        table.add_row(
            each, format_bytes(found.length), str(len(found.blocks)), str(found.replicas), placed, state
        )
    if table.row_count:
        render.print_table(render.console(), table)
    else:
        say("no sets; place one with `offerd data put SET PATH...`", to_stdout=True)


@command.command(short_help="Remove data sets.")
@owner_option
@master_option
@click.argument("names", nargs=-1, required=True, metavar="SET...")
def rm(*, master: str, owner: str | None, names: tuple[str, ...]) -> None:
    """Remove data sets from all slaves.

    \b
    offerd data rm logs
    """
    from offerd_frameworks.mapreduce import blocks

    for name in names:
        blocks.check_name(name)
    on = blocks.hosts(master, owner)
    missing = []
    for name in names:
        if blocks.remove(name, on):
            say(f"{name}: removed", to_stdout=True)
        else:
            missing.append(name)
    if missing:
        raise BadInput(f"there is no set {', '.join(missing)}; `offerd data ls` lists all sets")


@command.command(short_help="Replace replicas that were lost.")
@master_option
@click.argument("names", nargs=-1, required=True, metavar="SET...")
def repair(*, master: str, names: tuple[str, ...]) -> int:
    """Copy blocks that have lost replicas to other slaves, until each has its number of replicas again.

    \b
    offerd data repair logs

    The exit status is 1 if a set is not whole afterwards: a block is on no slave that answers, or there are too few slaves.
    """
    from offerd_cli.screen import Screen
    from offerd_frameworks.mapreduce import blocks

    on = blocks.hosts(master)
    screen = Screen("offerd data repair")
    is_whole = True
    for name in names:
        found, made = blocks.repair(
            name,
            on,
            progress=lambda done, total: screen.progress(done >> 20, max(total >> 20, 1), text="MiB"),
        )
        screen.end_progress()
        is_whole = is_whole and not found.short
        state = f"{len(found.missing)} of {len(found.blocks)} blocks are lost" if found.missing else "whole"
        if found.short and not found.missing:
            state = f"{found.short} are still missing: {len(on)} slaves are too few"
        say(f"{name}: {made} replica{'s' * (made != 1)} made, {state}", to_stdout=True)
    return 0 if is_whole else 1


def _table(*titles: str) -> FittedTable:
    """The first column identifies a row, the last one wraps."""
    return FittedTable(
        *(
            Column(
                title,
                "right" if title in ("SIZE", "BLOCKS", "REPLICAS") else "left",
                cuts=title == titles[0],
                wraps=title == titles[-1] != "REPLICAS",
            )
            for title in titles
        )
    )
