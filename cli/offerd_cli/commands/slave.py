"""`offerd slave`: the daemon that runs tasks on its host; with `--drain` or `--activate`, asks the one that runs there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.config_file import take_config
from offerd_cli.limit_options import isolation_options, limit_options
from offerd_cli.options import DURATION, master_option
from offerd_cli.units import parse_amount, parse_pairs


def default_work_dir() -> Path:
    """Where a slave keeps its state if nothing else is said: the system's place for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/offerd/slave")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "offerd" / "slave"


def _log_bytes(text: str) -> int:
    """`10M` in bytes, and enough of them for a log to be of use."""
    size = parse_amount("disk", text)
    if size < 4096:
        raise BadInput(f"--log-size {text} is less than 4K; give logs some room")
    return size


def _amount_or_max(name: str, text: str, option: str) -> int:
    """Bytes; 0 for any number of them."""
    if text == "max":
        return 0
    if (size := parse_amount(name, text)) < 1 << 20:
        raise BadInput(f"{option} {text} is less than 1M; give tasks some room, or max for no limit")
    return size


def _disk_floor(text: str) -> int | None:
    return parse_amount("disk", text) if text else None


def _wish(work_dir: Path, *, drain: bool, activate: bool, kill: bool, deadline_s: float | None) -> int:
    """What is wanted of the slave that runs here."""
    from offerd_cli.slave_wishes import activate_slave, drain_slave

    if drain == activate or (activate and (kill or deadline_s is not None)):
        raise BadInput("--deadline and --kill are for --drain, and --activate undoes that; choose one")
    if kill and deadline_s is not None:
        raise BadInput("--kill ends what runs at once, --deadline later; choose one")
    return activate_slave(work_dir) if activate else drain_slave(work_dir, 0.0 if kill else deadline_s)


@click.group(invoke_without_command=True, short_help="The daemon that runs tasks on its host.")
@master_option
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=take_config,
    is_eager=True,
    expose_value=False,
    metavar="FILE",
    help="TOML: these flags by name.",
)
@click.option("--ip", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=5051,
    show_default=True,
    help="Sandbox files; 0 = a free one.",
)
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path),
    help="State and sandboxes.  [default: /var/lib/offerd/slave as root]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Blocks of data sets (`offerd data`).  [default: in the work directory]",
)
@click.option("--hostname", default="", help="Name of this slave.  [default: the host's]")
@click.option(
    "--resources",
    default="",
    metavar="LIST",
    help="What to offer, as cpus=4,mem=8G; by name over what the host has.",
)
@click.option("--attributes", default="", metavar="K=V,...", help="What frameworks may filter by.")
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cgroups, docker, noop or another installed module.",
)
@limit_options
@click.option("--image", default="", help="Of the containers of tasks that name none (isolation docker).")
@click.option(
    "--pull",
    type=click.Choice(["never", "if-absent", "always"]),
    default="if-absent",
    show_default=True,
    help="When images are fetched from their registries, where a task does not say.",
)
@click.option(
    "--images",
    default="",
    metavar="PATTERN,...",
    help="What else tasks may name, as debian:12,registry.example/team/*; * = any.  [default: only --image]",
)
@click.option(
    "--network", default="none", show_default=True, help="Of containers, as `docker run --network` takes it."
)
@click.option(
    "--engine-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long the Docker engine may take to make a container.",
)
@click.option(
    "--long-fraction",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Part that long tasks may hold; at least one cpu, unless 0.",
)
@click.option(
    "--short-limit",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Tasks with a limit up to this are short.",
)
@click.option(
    "--minimum-offer",
    default="",
    metavar="RESOURCES",
    help="Not offered while less is free.  [default: as the master says]",
)
@click.option("--kill-grace", type=DURATION, default="5s", show_default=True, help="From TERM to KILL.")
@click.option(
    "--max-kill-grace",
    type=DURATION,
    default="30s",
    show_default=True,
    help="Longest that anybody may ask for between the two.",
)
@click.option(
    "--default-user",
    default="",
    metavar="NAME",
    help="Who runs the tasks of frameworks without a user.  [default: nobody as root, else the slave's own]",
)
@click.option(
    "--executor-registration-timeout",
    type=DURATION,
    default="60s",
    show_default=True,
    help="How long a new executor may take to say hello.",
)
@click.option(
    "--log-size",
    default="10M",
    show_default=True,
    help="Of a log file: of a task's stdout two are kept, and of its stderr; more where somebody waits for the output.",
)
@click.option(
    "--disk-floor",
    default="",
    metavar="SIZE",
    help="With less free in the work directory, no new tasks.  [default: 64M, at most 1% of the disk]",
)
@click.option(
    "--default-task-mem",
    default="256M",
    show_default=True,
    metavar="SIZE",
    help="Limit of a task that declares no memory; max = none.",
)
@click.option(
    "--disk-per-task",
    default="",
    metavar="SIZE",
    help="Most that a task which asks for no disk may have there; max = any.  [default: 10G, at most a tenth of the disk]",
)
@click.option(
    "--gc-delay",
    type=DURATION,
    default="7d",
    show_default=True,
    help="How long files of ended tasks and executors are kept; less, the fuller the disk.",
)
@click.option(
    "--gc-tasks",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Of how many ended tasks of an executor that lives on.",
)
@click.option(
    "--gc-executors",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Of how many ended executors.",
)
@click.option(
    "--gc-disk-headroom",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Part of the disk to be free: with less, files of what has ended go at once.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Obey a master without keys, and serve files where others can reach them.",
)
@click.option("--ephemeral", is_flag=True, help="On SIGTERM end all tasks and remove the work directory.")
@click.option("--die-with-parent", is_flag=True, help="End (as by SIGTERM) when the parent process does.")
@click.option(
    "--drain",
    is_flag=True,
    help="Ask the slave that runs on the work directory to take nothing new; wait until nothing runs there.",
)
@click.option("--deadline", type=DURATION, metavar="TIME", help="With --drain: end what still runs then.")
@click.option("--kill", is_flag=True, help="With --drain: end what runs now.")
@click.option("--activate", is_flag=True, help="Ask the slave that runs on the work directory to work again.")
@click.pass_context
def command(
    context: click.Context,
    *,
    master: str,
    ip: str,
    http_port: int,
    work_dir: Path | None,
    data_dir: Path | None,
    hostname: str,
    resources: str,
    attributes: str,
    isolation: str,
    cpu_quota: bool,
    pids_max: str,
    io_weight: bool,
    io_max: tuple[str, ...],
    cpuset: str,
    image: str,
    pull: str,
    images: str,
    network: str,
    engine_timeout: float,
    long_fraction: float,
    short_limit: float,
    minimum_offer: str,
    kill_grace: float,
    max_kill_grace: float,
    default_user: str,
    executor_registration_timeout: float,
    log_size: str,
    disk_floor: str,
    default_task_mem: str,
    disk_per_task: str,
    gc_delay: float,
    gc_tasks: int,
    gc_executors: int,
    gc_disk_headroom: float,
    insecure: bool,
    ephemeral: bool,
    die_with_parent: bool,
    drain: bool,
    deadline: float | None,
    kill: bool,
    activate: bool,
) -> int:
    """Run tasks on this host for a master. `offerd slave join` makes a host one of a cluster's.

    SIGTERM ends the slave alone: its tasks go on, and the next slave on the same work directory adopts them.
    `offerd slave --drain` takes it out until it is activated again, also over restarts (`offerd drain --help` says more).
    """
    if context.invoked_subcommand is not None:
        return 0
    where = work_dir if work_dir is not None else default_work_dir()
    if drain or activate or kill or deadline is not None:
        return _wish(where, drain=drain, activate=activate, kill=kill, deadline_s=deadline)
    if die_with_parent:
        from offerd_cli import parent

        parent.die_with_parent()

    from offerd.resources import Resources
    from offerd_slave.core.retention import Bounds
    from offerd_slave.settings import SlaveOptions, SlaveSettings

    if long_fraction != long_fraction:
        raise BadInput("--long-fraction must be a number from 0 to 1")
    if kill_grace > max_kill_grace:
        raise BadInput(f"--kill-grace {kill_grace:g}s is longer than --max-kill-grace {max_kill_grace:g}s")
    options = SlaveOptions(
        master=master,
        ip=ip,
        http_port=http_port,
        work_dir=where,
        data_dir=data_dir.absolute() if data_dir is not None else None,
        hostname=hostname,
        resources=Resources.parse(resources) if resources else None,
        attributes=parse_pairs([attributes] if attributes else [], "--attributes", commas=True),
        minimum_offer=Resources.parse(minimum_offer) if minimum_offer else None,
        isolation=isolation,
        limits=replace(
            isolation_options(
                cpu_quota=cpu_quota, pids_max=pids_max, io_weight=io_weight, io_max=io_max, cpuset=cpuset
            ),
            image=image,
            images=tuple(word for word in images.split(",") if word),
            pull=pull,
            network=network,
            engine_timeout_s=engine_timeout,
        ),
        default_user=default_user,
        insecure=insecure,
        ephemeral=ephemeral,
        log_bytes=_log_bytes(log_size),
        disk_per_task_bytes=(
            _amount_or_max("disk", disk_per_task, "--disk-per-task") if disk_per_task else None
        ),
        leftovers=Bounds(gc_delay, gc_tasks, gc_disk_headroom, gc_executors),
        settings=SlaveSettings(
            long_fraction=long_fraction,
            short_limit_s=short_limit,
            kill_grace_s=kill_grace,
            max_kill_grace_s=max_kill_grace,
            executor_registration_timeout_s=executor_registration_timeout,
            disk_floor_bytes=_disk_floor(disk_floor),
            default_task_mem_bytes=_amount_or_max("mem", default_task_mem, "--default-task-mem"),
        ),
    )

    from offerd.daemon_log import log_to_stderr
    from offerd_slave.daemon import run_slave

    log_to_stderr("offerd.slave", "offerd.zookeeper")
    return run_slave(options)


@command.command("join", short_help="Make this host a slave of a cluster.")
@click.option("--name", default="", help="Under which it is known.  [default: the host's]")
@click.option("--ip", default="", help="Address to listen on.  [default: that on the way to the master]")
@click.option(
    "--cluster", default="", metavar="NAME", help="For `offerd cluster`.  [default: the master's host]"
)
@click.option("--http-port", type=click.IntRange(0, 65535), help="Sandbox files.  [default: 5051]")
@click.option("--work-dir", type=click.Path(path_type=Path), help="[default: /var/lib/offerd/slave as root]")
@click.option("--no-start", is_flag=True, help="Only make keys and configuration.")
@click.argument("where", metavar="HOST[:PORT]")
@click.argument("word")
def join_cluster(
    *,
    where: str,
    word: str,
    name: str,
    ip: str,
    cluster: str,
    http_port: int | None,
    work_dir: Path | None,
    no_start: bool,
) -> None:
    """Make this host a slave of the cluster whose master is at HOST (port 5060 unless said; or zk://...), with a WORD that an
    operator has made there (`offerd token new --slave`). For - it is read from standard input: what is typed here may be read
    by every account of this host while it joins.

    The host's own secret key is made here and stays here. It ends when the slave runs and is registered; what it has
    written stands in /etc/offerd (as root), and is all that the slave needs from then on.
    """
    from offerd_cli.founding import announce
    from offerd_cli.slave_joining import SlaveJoining, join

    join(
        SlaveJoining(
            master=where,
            word=word,
            name=name,
            ip=ip,
            cluster=cluster,
            http_port=http_port,
            work_dir=work_dir,
            starts=not no_start,
        ),
        announce,
    )
