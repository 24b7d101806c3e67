"""The `offerd` command: the table of its commands, each imported only when it is run, and how a run ends.

Commands return their exit status (None = 0). An error is one line on stderr, with exit status 2 for input that cannot be used,
1 for a failure, 130 after Ctrl-C. If nobody reads the output it is 141, without a line. A traceback is a defect of offerd.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, TextIO

import click

from offerd.errors import BadInput, OfferdError
from offerd.tasks import standard_streams
from offerd_cli.exit_statuses import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_FAILURE, EXIT_INTERRUPTED
from offerd_cli.screen import CannotWrite, say

COMMANDS = {
    "demo": "Run MapReduce and MPI side by side on a cluster on this host, and check the results.",
    "local": "Start a whole cluster on this host, until Ctrl-C.",
    "run": "Run a command on the cluster and stream its output.",
    "map": "Run a command once for each argument, as xargs does, on the cluster.",
    "mapreduce": "Run a MapReduce job of any programs.",
    "data": "Place files in blocks on the slaves, as data sets.",
    "mpi": "Run an MPI program, all its ranks at once.",
    "status": "Show the whole cluster at a glance.",
    "slaves": "List the slaves.",
    "frameworks": "List the frameworks.",
    "explain": "Show why a framework does not get more resources.",
    "tasks": "List tasks, or show all details of one.",
    "events": "Show what happens in the cluster, and what has happened.",
    "report": "Show what roles, frameworks and users have held, used and wasted.",
    "top": "Show what the tasks use, live.",
    "metrics": "Print metrics of the cluster for Prometheus.",
    "logs": "Print the output of a task.",
    "kill": "End tasks, or a whole framework.",
    "drain": "Empty slaves: no new tasks start there, running ones may finish.",
    "deactivate": "Stop offering slaves; their tasks go on.",
    "activate": "Offer drained or deactivated slaves again.",
    "token": "Make the tokens by which hosts and people join the cluster.",
    "cluster": "Name the clusters that this account uses, and keep the keys to them.",
    "keys": "Make, list and revoke the keys of daemons and people.",
    "completion": "Print the script that makes a shell complete offerd's words.",
    "man": "Write manual pages, made from these help texts.",
    "doctor": "Check what this host can do, and show how to fix the rest.",
    "debug": "Record what a master or slave does, and replay it.",
    "simulate": "Run the master's core in virtual time, beside the paper's figures.",
    "web": "Serve the cluster to browsers and scripts.",
    "master": "Run the daemon that makes the offers.",
    "slave": "Run the daemon that runs tasks on this host.",
}
"""Name -> its line in `offerd --help`. The module is `offerd_cli.commands.NAME`."""

RECORDERS = ("local", "master", "slave")
"""The commands for which SIGUSR2 means to write a recording."""

SECTIONS = {
    "Start here": ("demo", "local", "doctor"),
    "Work": ("run", "map", "mapreduce", "mpi", "data"),
    "Look": (
        "status",
        "slaves",
        "frameworks",
        "explain",
        "tasks",
        "events",
        "report",
        "top",
        "metrics",
        "logs",
        "kill",
    ),
    "Operate": ("drain", "deactivate", "activate", "token", "keys", "cluster"),
    "Daemons": ("master", "slave", "web"),
    "Study": ("debug", "simulate"),
    "Shell": ("completion", "man"),
}


class _NeverRaised(click.UsageError):
    pass


_NO_COMMAND_NAMED: type[click.UsageError] = getattr(click.exceptions, "NoArgsIsHelpError", _NeverRaised)
"""What click raises for a group without a command; click before 8.2 shows the help instead."""


class HelpFormatter(click.HelpFormatter):
    """Leaves at least half of a narrow terminal to the texts of options, however long their names are."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class Context(click.Context):
    formatter_class = HelpFormatter


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"offerd_cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            each.context_class = Context
        from offerd.daemons.daemon_log import warn_on_stderr

        warn_on_stderr()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, but an unknown command is answered with similar names."""
        if args and args[0] not in COMMANDS and (close := get_close_matches(args[0].lower(), COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(map(repr, close))}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's, but after a broken pipe the exit status is the shell's, not 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return EXIT_BROKEN_PIPE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Uses the table, so that `offerd --help` imports no command."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name]) for name in names], col_max=14)


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"offerd {version('offerd')}")
        context.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Run a cluster and work on it: the master offers resources, and frameworks choose what to run.

    \b
    offerd local --slaves 3             # in one terminal
    offerd run -- sh -c 'echo hello'    # in another
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in RECORDERS:
        # It would end them. They take their own handlers once all is imported. A function, as SIG_IGN is inherited by tasks.
        signal.signal(signal.SIGUSR2, _not_yet)
    standard_streams.settle()
    status = _run(words)
    failures = [_flush(stream) for stream in (sys.stdout, sys.stderr)]
    failure = next((error for error in failures if error is not None), None)
    if status or failure is None:
        return status
    if isinstance(failure, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    return _complain(f"cannot write the output: {failure.strerror}", EXIT_FAILURE)


def _not_yet(_number: int, _frame: object) -> None:
    """Does nothing: there is nothing to record yet."""


def _run(words: list[str]) -> int:
    try:
        status = cli.main(args=words or ["--help"], prog_name="offerd", standalone_mode=False)
    except _NO_COMMAND_NAMED as error:
        return _show_help(error)
    except click.UsageError as error:
        path = _command_path(error, words)
        return _complain(f"{error.format_message().rstrip('.')}; see `{path} --help`", EXIT_BAD_INPUT, path)
    except click.ClickException as error:
        return _complain(error.format_message(), EXIT_FAILURE)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except CannotWrite as error:
        return _complain(f"cannot write the output: {error.strerror}", EXIT_FAILURE, error.who)
    except BadInput as error:
        return _complain(str(error), EXIT_BAD_INPUT)
    except OfferdError as error:
        return _complain(str(error), EXIT_FAILURE)
    except UnicodeEncodeError as error:
        if error.object.isprintable():
            raise
        return _complain(f"{error.object} is not valid UTF-8; use another name", EXIT_BAD_INPUT)
    except standard_streams.OutputFailed as error:
        return _complain(f"cannot write the output: {error.strerror}", EXIT_FAILURE)
    except FileNotFoundError:
        if _has_directory():
            raise
        return _complain("the current directory has been removed; change to another one", EXIT_BAD_INPUT)
    return status if isinstance(status, int) else 0


def _has_directory() -> bool:
    """Whether the current directory exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _show_help(error: click.UsageError) -> int:
    """A group was named without a command: show its commands, with the exit status of bad input."""
    assert error.ctx is not None
    with suppress(OSError):
        print(error.ctx.get_help(), file=sys.stderr)  # our own text of many lines, so not with `say`
    return EXIT_BAD_INPUT


def _command_path(error: click.UsageError, words: list[str]) -> str:
    """The command whose help to see, as far as it is known (click's parser does not report it)."""
    if error.ctx is not None:
        return error.ctx.command_path
    return f"offerd {words[0]}" if words and words[0] in COMMANDS else "offerd"


def _complain(text: str, status: int, who: str = "offerd") -> int:
    """Print one line on stderr, even if a peer's text or a file name contains line ends."""
    with suppress(OSError):  # if stderr itself cannot be written, nothing more can be done
        say(f"{who}: {text}")
    return status


def _flush(stream: TextIO | None) -> OSError | None:
    """Flush now: Python's own flush at its end would fail with exit status 120. What cannot be written is given up.

    Afterwards the stream leads nowhere, because Python flushes what is left in it once more.
    """
    if stream is None:  # it was closed before we started
        return None
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


if __name__ == "__main__":
    sys.exit(main())
