"""The main program: what it imports, how it reports errors, its exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from offerd.errors import OfferdError
from offerd.ids import SlaveID
from offerd.messages import SlaveInfo
from offerd.resources import Resources
from offerd_cli import main as cli
from offerd_cli.main import COMMANDS, RECORDERS, SECTIONS, main


def output(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def command(name: str) -> click.Command:
    found = cli.LazyGroup().get_command(click.Context(cli.cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_same_line_for_a_command_as_its_module(name: str) -> None:
    assert command(name).get_short_help_str(200) == COMMANDS[name]


@pytest.mark.parametrize("words", ["run -C . -- true", "map -C . -- true ::: a"])
def test_a_removed_current_directory_is_reported_in_one_line(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, out, err = output(capsys, *words.split())
    assert (status, out) == (2, "")
    assert err == "offerd: the current directory has been removed; change to another one\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = output(capsys, name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: offerd {name}")


@pytest.mark.parametrize("name", ["cluster", "data", "debug", "keys", "token"])
def test_a_group_without_a_command_lists_its_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = output(capsys, name)
    shown = out or err  # click before 8.2 shows it on stdout and ends with 0
    assert status in (0, 2)
    assert shown.startswith(f"Usage: offerd {name} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in shown
    assert shown == output(capsys, name, "--help")[1], "with its indentation"


def test_existing_sets_are_removed_even_if_others_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"a", "b"}

    def remove(name: str, on: object) -> bool:
        is_there = name in there
        there.discard(name)
        return is_there

    monkeypatch.setattr("offerd_frameworks.mapreduce.blocks.hosts", lambda *_: None)
    monkeypatch.setattr("offerd_frameworks.mapreduce.blocks.remove", remove)
    assert output(capsys, "data", "rm", "a", "../x")[0] == 2
    assert there == {"a", "b"}, "nothing is done where a name cannot be one"
    assert output(capsys, "data", "rm", "none", "a", "nor", "b") == (
        2,
        "a: removed\nb: removed\n",
        "offerd: there is no set none, nor; `offerd data ls` lists all sets\n",
    )
    assert not there


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["activate", "host7", "gone"], "host7 is offered again\n"),
        (["deactivate", "host7", "gone"], "host7 is deactivated; `offerd activate host7` offers it again\n"),
        (["deactivate", "--undo", "host7", "gone"], "host7 is offered again\n"),
    ],
)
def test_a_change_of_a_slaves_mode_is_confirmed(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(_: object, name: str, *_more: object) -> None:
        if name == "gone":
            raise OfferdError("no slave gone is registered")

    monkeypatch.setattr("offerd.operator.OperatorClient.change_slave_mode", change)
    assert output(capsys, *words, "--master", "127.0.0.1:1") == (
        1,
        "",
        f"offerd: no slave gone is registered\n{said}",
    )


def test_a_typing_error_in_a_filter_of_tasks_does_not_look_like_an_idle_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = "offerd.operator.OperatorClient"
    monkeypatch.setattr(f"{client}.tasks", lambda *_, **__: [])
    monkeypatch.setattr(
        f"{client}.frameworks", lambda *_, **__: [SimpleNamespace(framework_id="F-1", name="wordcount")]
    )
    there = SlaveInfo("host7", Resources.of(cpus=1), slave_id=SlaveID("S-1@host7"))
    monkeypatch.setattr(f"{client}.slaves", lambda *_: [SimpleNamespace(info=there)])
    words, idle = (
        ["tasks", "--master", "127.0.0.1:1"],
        "no such tasks are running; --all lists those that have ended\n",
    )
    for known in (
        ["--framework", "wordcount"],
        ["--host", "host7"],
        ["--host", "S-1@host7"],
        ["--user", "alice"],
    ):
        assert output(capsys, *words, *known) == (0, "", idle)
    assert output(capsys, *words, "--framework", "wordcont", "--host", "hots7") == (
        0,
        "",
        f"{idle}no framework wordcont is known; `offerd frameworks --all` lists them\n"
        "no slave hots7 is known; `offerd slaves` lists them\n",
    )


def test_every_command_stands_in_one_section_of_the_help() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)


def test_no_words_at_all_are_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys)
    assert status == 0
    assert "offerd local --slaves 3" in out


def test_the_help_imports_no_command_and_no_library_of_theirs() -> None:
    script = (
        "import sys; from offerd_cli.main import main; main(['--help'])\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('rich', 'zmq', 'msgspec', 'psutil', 'docker')\n"
        "       or n.startswith('offerd_cli.commands')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["frobnicate"], "frobnicate"),
        (["staus"], "Did you mean 'status'"),
        (["RUN", "true"], "Did you mean 'run'"),
        (["keys", "lst"], "lst"),
        (["status", "--master", "http://127.0.0.1:5060"], "write HOST:PORT"),
        (["status", "--master", "::1"], "write HOST:PORT"),
        (["run"], "Missing argument"),
        (["run", "--no-such", "true"], "--no-such"),
        (["run", "--timeout", "2", "true"], "not a duration; write 2s or 2m"),
        (["run", "--timeout", "0s", "true"], "longer than 0s"),
        (["run", "--long", "--timeout", "2s", "true"], "choose one"),
        (["run", "--cpus", "many", "true"], "--cpus many is not a number; write it as 4 or 0.5"),
        (["run", "--mem", "128", "true"], "--mem 128 has no unit; write 128M or 128G"),
        (["run", "--cpus", "-1", "true"], "--cpus -1 must be a number, zero or more"),
        (
            ["mapreduce", "--mem", "5", "--mapper", "cat", "--input", "x", "--output", "y"],
            "--mem 5 has no unit",
        ),
        (["slave", "--log-size", "5"], "--log-size 5 has no unit"),
        (["local", "--slaves", "0.5"], "'0.5' is not a whole number, from 0 to 500"),
        (["run", "--env", "A", "true"], "KEY=VALUE"),
        (["run", "--master", "nowhere:port", "true"], "not an address"),
        (["run", "--instances", "0", "true"], "instances"),
        (["map", "true"], "no arguments"),
        (["map", ":::", "a"], "the command is missing"),
        (["map", "true", "::::", "no/such/file"], "No such file"),
        (["map", "-j", "0", "true", ":::", "a"], "jobs"),
        (["local", "--slaves", "-1"], "slaves"),
        (["local", "--cpus", "x"], "--cpus x is not a number"),
        (["local", "--short-limit", "soon"], "not a duration"),
        (["master", "--port", "70000"], "port"),
        (["master", "--weights", "a"], "KEY=VALUE"),
        (["master", "--weights", "a=0"], "above zero"),
        (["master", "--priorities", "a=1.5"], "not a whole number"),
        (["master", "--guarantee", "a"], "KEY=VALUE"),
        (["master", "--guarantee", "a=cpus=x"], "cpus=x"),
        (["master", "--guarantee", "a=cpus=2", "--limit", "a=cpus=1"], "raise the limit"),
        (["master", "--guarantee", "a/b=cpus=2", "--guarantee", "a=cpus=1"], "its guarantee of cpus is less"),
        (["master", "--minimum-offer", "cpus"], "cpus"),
        (["master", "--config", "no/such/file"], "No such file"),
        (["master", "--offer-timeout", "0s"], "more than zero"),
        (["master", "--ip", "0.0.0.0"], "--insecure"),
        (["master", "--allocator", "none-such"], "none-such"),
        (["slave", "--resources", "cpus=4,mem=8"], "--resources: mem=8 has no unit"),
        (["slave", "--attributes", "rack"], "KEY=VALUE"),
        (["slave", "--long-fraction", "2"], "long-fraction"),
        (["slave", "--long-fraction", "nan"], "long-fraction"),
        (["slave", "--drain", "--work-dir", "no/such/directory"], "not a slave's work directory"),
        (["kill"], "name the tasks to end"),
        (["logs"], "Missing argument"),
        (["debug", "record", "--for", "0s"], "--for must be longer than 0s"),
        (["demo", "--slaves", "0"], "slaves"),
        (
            ["kill", "--framework"],
            "offerd kill: Option '--framework' requires an argument; see `offerd kill --help`",
        ),
        (["run", "--user", "", "true"], "it is empty; leave the option out"),
        (["run", "--image=", "true"], "it is empty"),
        (["run", "-C", "", "true"], "it is empty"),
        (["map", "--role", "", "true", ":::", "a"], "it is empty"),
        (["mpi", "-C", "", "-n", "1", "true"], "it is empty"),
        (["mapreduce", "--user", "", "--mapper", "cat", "--input", "x", "--output", "y"], "it is empty"),
        (["status", "--master", ""], "it is empty"),
        (["status", "--key", ""], "it is empty"),
        (["run", "--attributes", "a=1,a=2", "true"], "--attributes: a is given twice; give it once"),
        (["slave", "--attributes", "a=1,b=2,a=3"], "--attributes: a is given twice"),
        (["master", "--weights", "a=1,a=2"], "--weights: a is given twice"),
        (["master", "--limit", "a=cpus=2", "--limit", "a=cpus=1"], "--limit: a is given twice"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_status_2(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    status, out, err = output(capsys, *words)
    assert (status, out) == (2, "")
    assert complaint in err
    assert err.startswith("offerd")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["status", "slaves", "frameworks", "tasks"])
def test_a_listing_without_a_master_fails_with_one_line_that_says_how_to_start_one(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offerd.masters.leader.ANSWER_S", 0.1)
    status, out, err = output(capsys, name, "--master", "127.0.0.1:1")
    assert (status, out) == (1, "")
    assert "offerd local" in err
    assert err.count("\n") == 1


def test_doctor_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = output(capsys, "doctor", "--json")
    assert (status, err) == (0, "")
    checks = json.loads(out)["checks"]
    assert {frozenset(check) for check in checks} == {frozenset({"check", "ok", "found", "mend"})}


def test_doctor_names_every_check_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys, "doctor")
    assert status == 0
    assert "cgroup v2" in out
    assert "\x1b" not in out


def ended(script: str, stdout: int, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """`offerd drain` with `script` in its place, as a process that buffers its output."""
    program = (
        "import sys, click; from offerd_cli import main\n"
        "@click.command()\n"
        f"def command(): {script}\n"
        "main.LazyGroup.get_command = lambda *_: command\n"
        "sys.exit(main.main(['drain']))"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=stdout,
        stderr=stderr,
        env=environment,
        check=False,
        timeout=20,
    )


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize(
    "script", ["sys.stdout.write('held back')", "click.echo('at once')", "sys.stdout.write('x'); return 141"]
)
def test_unread_output_of_a_command_ends_it_with_status_141_and_no_message(script: str, unread: int) -> None:
    done = ended(script, unread)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("script", ["sys.stdout.write('held back')", "click.echo('at once')"])
def test_a_full_disk_for_a_commands_output_is_one_line_and_exit_status_1(script: str) -> None:
    with open("/dev/full", "wb") as full:
        done = ended(script, full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"offerd: cannot write the output: No space left on device\n"


def test_what_a_command_held_back_is_written_though_nobody_reads_its_stderr(unread: int) -> None:
    done = ended("sys.stderr.write('lost'); sys.stdout.write('held back'); return 3", subprocess.PIPE, unread)
    assert (done.returncode, done.stdout) == (3, b"held back")


@pytest.mark.parametrize("name", RECORDERS)
def test_a_signal_to_record_does_not_end_a_daemon_that_still_starts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    monkeypatch.setattr(cli, "_run", lambda words: found.append(signal.getsignal(signal.SIGUSR2)))
    try:
        main([name])
    finally:
        signal.signal(signal.SIGUSR2, before)
    (handler,) = found
    assert callable(handler), "a function: what is ignored stays so in tasks"
