"""Joining as people do it: a master on one host, a token, a slave on another; and revoked tokens and keys.

Hosts are network namespaces with /etc and /var/lib of their own; the daemons are real ones, started by the commands.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.cli import wait_until
from helpers.machines import Machine
from helpers.netns import Hosts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FIRST_TASK_S = 10.0
ENDS_S = 10.0


class Two(NamedTuple):
    """A master's host, another one, and how the first minutes went."""

    master: Machine
    other: Machine
    typed: list[tuple[str, ...]]
    first_output: str
    first_task_s: float


def token_of(machine: Machine, *arguments: str) -> str:
    """Of `offerd token new`."""
    made = machine.offerd("token", "new", *arguments)
    assert (made.returncode, made.stdout.count("\n")) == (0, 1), made.stderr
    return made.stdout.strip()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    place = tmp_path_factory.mktemp("hosts")
    with (
        Hosts(2) as hosts,
        Machine(hosts, 0, "alpha", place / "alpha") as master,
        Machine(hosts, 1, "beta", place / "beta") as other,
    ):
        typed: list[tuple[str, ...]] = []

        def types(machine: Machine, *words: str) -> str:
            typed.append(words)
            done = machine.offerd(*words)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        types(master, "master", "init")
        began = time.monotonic()
        token = types(master, "token", "new", "--slave")
        types(other, "slave", "join", master.address, token)
        ran = master.offerd("run", "--", "hostname")
        first_task_s = time.monotonic() - began
        assert ran.returncode == 0, ran.stderr
        yield Two(master, other, typed, ran.stdout, first_task_s)


def refused(machine: Machine) -> int:
    document = json.loads(machine.offerd("status", "--json").stdout)
    number: int = document["cluster"]["refused"]
    return number


def slaves(machine: Machine) -> list[dict[str, Any]]:
    listed = machine.offerd("slaves", "--json")
    assert listed.returncode == 0, listed.stderr
    found: list[dict[str, Any]] = json.loads(listed.stdout)["slaves"]
    return found


def pids_of(machine: Machine, pattern: str) -> list[str]:
    """In that host's network namespace."""
    namespace = os.stat(f"/proc/{machine.pid}/ns/net").st_ino
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if pattern in words and (entry / "ns/net").stat().st_ino == namespace:
                found.append(entry.name)
        except OSError:
            continue
    return found


# -- joining ------------------------------------------------------------------------------------------------------------


def test_three_typed_lines_and_a_command_runs_on_the_second_host(two: Two) -> None:
    assert two.first_output == "beta\n"
    assert len(two.typed) == 3
    assert not any("--insecure" in words for words in two.typed)
    (slave,) = slaves(two.master)
    assert (slave["hostname"], slave["slave_id"].rpartition("@")[2]) == ("beta", "beta")


def test_from_the_token_to_the_first_task_it_takes_less_than_ten_seconds(two: Two) -> None:
    print(f"from `offerd token new` to the end of the first task: {two.first_task_s:.1f} s")
    assert two.first_task_s < FIRST_TASK_S


def test_the_secret_key_of_the_new_host_is_for_its_root_alone_and_is_nowhere_else(two: Two) -> None:
    secret = two.other.read("/etc/offerd/slave/beta.key").partition('secret = "')[2][:40]
    assert len(secret) == 40
    mode = two.other.run("stat", "-c", "%a %U", "/etc/offerd/slave/beta.key").stdout
    assert mode == "600 root\n"
    for machine in (two.master, two.other):
        found = machine.run("grep", "-rlF", "--", secret, "/etc/offerd", "/var/lib/offerd").stdout.split()
        assert found == (["/etc/offerd/slave/beta.key"] if machine is two.other else [])


def test_joining_twice_says_so_and_changes_nothing(two: Two) -> None:
    before = two.other.run(
        "sh", "-c", "cd /etc/offerd && sha256sum *.toml slave/* && stat -c %Y *.toml"
    ).stdout
    # With a token that is not on a command line.
    token = token_of(two.master, "--slave")
    again = two.other.run(
        "sh",
        "-c",
        f'echo {token} | "$0" -m offerd_cli.main slave join {two.master.address} -',
        sys.executable,
    )
    assert (again.returncode, again.stderr.count("\n")) == (0, 1)
    assert "has already joined" in again.stderr
    assert "nothing was changed" in again.stderr
    assert (
        two.other.run("sh", "-c", "cd /etc/offerd && sha256sum *.toml slave/* && stat -c %Y *.toml").stdout
        == before
    )


def test_a_master_is_not_made_twice(two: Two) -> None:
    again = two.master.offerd("master", "init")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr


def altered(token: str, place: int) -> str:
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("used", "the master refuses this token"),
        ("late", "the master refuses this token"),
        ("revoked", "the master refuses this token"),
        ("altered secret", "the master refuses this token"),
        ("altered master key", "does not have the key that the token names"),
        ("cut", "was it copied whole?"),
    ],
)
def test_an_invalid_token_is_refused_in_one_line_and_counted(two: Two, what: str, says: str) -> None:
    token = token_of(two.master, "--slave", "--ttl", "10ms" if what == "late" else "1h")
    directory = ("--name", "gamma", "--no-start")
    gamma = {"OFFERD_CONFIG": "/etc/offerd-gamma"}
    if what == "used":
        assert (
            two.other.offerd(
                "slave", "join", *directory, two.master.address, token, variables=gamma
            ).returncode
            == 0
        )
        assert two.master.offerd("keys", "revoke", "gamma").returncode == 0
        two.other.run("rm", "-r", "/etc/offerd-gamma")
    elif what == "revoked":
        (listed,) = json.loads(two.master.offerd("token", "list", "--json").stdout)["tokens"][-1:]
        assert two.master.offerd("token", "revoke", listed["token_id"]).returncode == 0
    elif what == "altered secret":
        token = altered(token, 60)
    elif what == "altered master key":
        token = altered(token, 5)
    elif what == "cut":
        token = token[:-3]
    before = refused(two.master)
    began = time.monotonic()
    done = two.other.offerd("slave", "join", *directory, two.master.address, token, variables=gamma)
    assert time.monotonic() - began < 10
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2 if what == "cut" else 1, "", 1), (
        done.stderr
    )
    assert says in done.stderr
    assert refused(two.master) > before or what == "cut"
    assert two.other.run("find", "/etc/offerd-gamma", "-name", "*.key").stdout == ""
    assert [each["hostname"] for each in slaves(two.master)] == ["beta"]


def test_a_name_that_is_taken_is_refused_and_the_token_stays_valid(two: Two) -> None:
    token = token_of(two.master, "--slave")
    gamma = {"OFFERD_CONFIG": "/etc/offerd-named"}
    words = ("slave", "join", "--no-start", two.master.address, token)
    taken = two.other.offerd(*words, "--name", "beta", variables=gamma)
    assert (taken.returncode, taken.stderr.count("\n")) == (1, 1)
    assert "the name beta is taken; choose another name with --name, or" in taken.stderr
    assert two.other.offerd(*words, "--name", "named", variables=gamma).returncode == 0
    listed = json.loads(two.master.offerd("keys", "list", "--json").stdout)["keys"]
    known = {key["name"]: key["enrolled"] for key in listed}
    assert (known["beta"], known["named"], known["root"]) == (True, True, False)


def test_tokens_and_enrolled_keys_are_valid_after_the_masters_restart(two: Two) -> None:
    token = token_of(two.master, "--slave")
    (slave,) = slaves(two.master)
    restart(two.master)
    wait_until(
        lambda: [each["slave_id"] for each in slaves(two.master)] == [slave["slave_id"]],
        "the slave to be back",
    )
    late = {"OFFERD_CONFIG": "/etc/offerd-late"}
    done = two.other.offerd(
        "slave", "join", "--no-start", "--name", "late", two.master.address, token, variables=late
    )
    assert done.returncode == 0, done.stderr
    assert two.master.offerd("run", "--", "hostname").stdout == "beta\n"


def restart(machine: Machine) -> None:
    """Restart the master, as an administrator without systemd would."""
    machine.run("sh", "-c", "kill $(cat /var/lib/offerd/master.pid)")
    wait_until(lambda: not pids_of(machine, "offerd_cli.main master"), "the master to end")
    machine.begin("master", "--config", "/etc/offerd/master.toml")
    wait_until(lambda: machine.offerd("status").returncode == 0, "the master to answer")


# -- revoking -----------------------------------------------------------------------------------------------------------


def test_a_key_of_the_masters_file_is_not_revoked_by_a_command(two: Two) -> None:
    done = two.master.offerd("keys", "revoke", "root")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "remove it there, and send the master SIGHUP" in done.stderr


def test_a_revoked_slaves_connection_executors_and_tasks_end_within_seconds(two: Two) -> None:
    task = two.master.begin("run", "--", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 654.3; done")
    assert task.stdout is not None
    assert task.stdout.readline() == "up\n"
    assert pids_of(two.other, "sleep 654.3")
    began = time.monotonic()
    assert two.master.offerd("keys", "revoke", "beta").returncode == 0
    wait_until(lambda: not pids_of(two.other, "654.3"), "the task to end", timeout_s=ENDS_S)
    wait_until(lambda: not pids_of(two.other, "offerd"), "the slave to end", timeout_s=ENDS_S)
    assert task.wait(60) != 0
    print(f"from `offerd keys revoke` to the last process: {time.monotonic() - began:.1f} s")
    assert slaves(two.master) == []
    assert (
        "this slave was taken out of the cluster"
        in two.other.read("/var/lib/offerd/slave.log").splitlines()[-1]
    )
    refusal = two.other.offerd("slave", "--config", "/etc/offerd/slave.toml")
    assert refusal.returncode == 1
    assert "the master does not know our key" in refusal.stderr
    # With another token it becomes a slave again, with a new key, as somebody else may have the revoked one.
    revoked = two.other.read("/etc/offerd/slave/beta.key")
    two.other.run("rm", "/etc/offerd/slave.toml")
    joined = two.other.offerd("slave", "join", two.master.address, token_of(two.master, "--slave"))
    assert joined.returncode == 0, joined.stderr
    assert two.other.read("/etc/offerd/slave/beta.key") != revoked
    assert two.master.offerd("run", "--", "hostname").stdout == "beta\n"


def test_the_masters_host_becomes_a_slave_too_and_its_operator_stays_one(two: Two) -> None:
    joined = two.master.offerd("slave", "join", two.master.address, token_of(two.master, "--slave"))
    assert joined.returncode == 0, joined.stderr
    try:
        assert sorted(each["hostname"] for each in slaves(two.master)) == ["alpha", "beta"]
        assert re.search(r"registered as S-\S+@alpha ", joined.stderr)
        assert two.master.offerd("keys", "list").returncode == 0
    finally:
        two.master.offerd("keys", "revoke", "alpha")
        wait_until(lambda: len(slaves(two.master)) == 1, "the slave to end", timeout_s=ENDS_S)


def test_a_slaves_key_survives_removal_of_its_cluster_from_the_store(two: Two) -> None:
    place = {"OFFERD_CONFIG": "/etc/offerd-removed"}
    words = ("slave", "join", "--no-start", "--name", "removed", "--cluster", "lab", two.master.address)
    joined = two.other.offerd(*words, token_of(two.master, "--slave"), variables=place)
    assert joined.returncode == 0, joined.stderr
    assert two.other.offerd("cluster", "remove", "lab", variables=place).returncode == 0
    assert two.other.run("test", "-s", "/etc/offerd-removed/slave/removed.key").returncode == 0
    assert two.master.offerd("keys", "revoke", "removed").returncode == 0


def test_a_person_joins_in_one_line_and_its_tasks_end_with_the_key(two: Two) -> None:
    person = {"OFFERD_CONFIG": "/etc/offerd-carol"}
    token = token_of(two.master, "--framework", "science,root")
    joins = ("cluster", "join", "prod", two.master.address, token, "--as", "carol")
    joined = two.other.offerd(*joins, variables=person)
    assert (joined.returncode, joined.stderr.count("\n")) == (0, 1), joined.stderr
    bare = two.other.offerd("run", "--", "true", variables=person)
    assert (bare.returncode, bare.stderr.count("\n")) == (1, 1)
    assert "carol may not have frameworks of role *, only of science" in bare.stderr
    for words in (
        ("run", "--role", "science", "--", "id", "-un"),
        ("map", "--role", "science", "--", "id", "-un", ":::", "root"),
    ):
        ran = two.other.offerd(*words, variables=person)
        assert (ran.returncode, ran.stdout) == (0, "root\n"), ran.stderr
    person["OFFERD_ROLE"] = "science"
    again = two.other.offerd(*joins, variables=person)
    assert (again.returncode, "nothing was changed" in again.stderr) == (0, True), again.stderr
    other_word = token_of(two.master, "--operator")
    taken = two.other.offerd(
        "cluster", "join", "prod2", two.master.address, other_word, "--as", "carol", variables=person
    )
    assert (taken.returncode, taken.stderr.count("\n")) == (1, 1)
    assert "the name carol is taken; choose another name with --as, or" in taken.stderr

    task = two.other.begin(
        "run", "--", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 765.4; done", variables=person
    )
    assert task.stdout is not None
    assert task.stdout.readline() == "up\n"
    began = time.monotonic()
    assert two.master.offerd("keys", "revoke", "carol").returncode == 0
    wait_until(lambda: not pids_of(two.other, "765.4"), "the task to end", timeout_s=ENDS_S)
    print(
        f"from `offerd keys revoke` to the end of the framework's last process: {time.monotonic() - began:.1f} s"
    )
    assert task.wait(60) != 0
    refusal = two.other.offerd("run", "--", "true", variables=person)
    assert refusal.returncode == 1
    assert "does not know" in refusal.stderr
    revoked = two.other.read("/etc/offerd-carol/keys/prod.key")
    anew = two.other.offerd(
        *joins[:4], token_of(two.master, "--framework", "science,root"), *joins[5:], variables=person
    )
    assert anew.returncode == 0, anew.stderr
    assert two.other.read("/etc/offerd-carol/keys/prod.key") != revoked
    assert two.master.offerd("keys", "revoke", "carol").returncode == 0
    assert [each["state"] for each in slaves(two.master)] == ["active"]
