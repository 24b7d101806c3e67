"""Options made from settings: the defaults of the command line are those of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from offerd.masters.leader import parse_zookeeper
from offerd.resources import Resources
from offerd_cli.main import main
from offerd_cli.master_file import MasterFile
from offerd_cli.master_options import MASTER, master_options, policy_options
from offerd_cli.option_tables import TIME, OptionTable, Setting
from offerd_cli.slave_options import LOCAL_SLAVES, SLAVE, slave_options
from offerd_cli.units import exact_duration, parse_duration
from offerd_master import process
from offerd_master.options import MasterOptions
from offerd_slave.options import SlaveOptions


def typed(table: OptionTable[Any], *words: str) -> dict[str, Any]:
    """What click reads from a command line with these options."""
    made: list[dict[str, Any]] = []

    @click.command()
    @table.options
    @policy_options
    def command(**parameters: Any) -> None:
        made.append(parameters)

    command.main(list(words), standalone_mode=False)
    return made[0]


def test_an_empty_command_line_means_the_defaults_of_the_classes() -> None:
    assert SLAVE.read(typed(SLAVE)) == SlaveOptions()
    assert MASTER.read(typed(MASTER)) == MasterOptions()
    assert LOCAL_SLAVES.command_line(typed(LOCAL_SLAVES)) == []


def test_every_option_of_a_slave_has_its_place() -> None:
    words = (
        "--ip 10.0.0.7 --http-port 0 --data-dir /d --hostname h --resources cpus=2 --attributes rack=7 "
        "--minimum-offer cpus=1 --isolation noop --cpu-quota --pids-max max --io-weight --io-max 8:0:rbps=1M --cpuset 0 "
        "--image i --images a,b/* --pull never --network bridge --engine-timeout 1m --long-fraction 0.25 --short-limit 90s "
        "--kill-grace 500ms --max-kill-grace 1m --default-user u --executor-registration-timeout 2m --log-size 4K "
        "--disk-floor 1G --default-task-mem max --disk-per-task 2G --gc-delay 1h --gc-tasks 3 --gc-executors 0 "
        "--gc-disk-headroom 0.5 --insecure --ephemeral"
    )
    options = slave_options("m", Path("/w"), typed(SLAVE, *words.split()))
    assert options.master == "m"
    assert (options.ip, options.http_port, options.work_dir, options.data_dir) == (
        "10.0.0.7", 0, Path("/w"), Path("/d"),
    )  # fmt: skip
    assert (options.hostname, options.resources, options.attributes, options.minimum_offer) == (
        "h", Resources.of(cpus=2), {"rack": "7"}, Resources.of(cpus=1),
    )  # fmt: skip
    limits = options.limits
    assert (limits.cpu_quota, limits.pids_max, limits.io_weight, limits.cpuset) == (
        True,
        None,
        True,
        frozenset({0}),
    )
    assert limits.io_max == (("8:0", (("rbps", 1 << 20),)),)
    assert (limits.image, limits.images, limits.pull, limits.network, limits.engine_timeout_s) == (
        "i", ("a", "b/*"), "never", "bridge", 60.0,
    )  # fmt: skip
    core = options.settings
    assert (core.long_fraction, core.short_limit_s, core.kill_grace_s, core.max_kill_grace_s) == (
        0.25, 90.0, 0.5, 60.0,
    )  # fmt: skip
    assert (core.executor_registration_timeout_s, core.disk_floor_bytes, core.default_task_mem_bytes) == (
        120.0, 1 << 30, 0,
    )  # fmt: skip
    assert (options.default_user, options.log_bytes, options.disk_per_task_bytes) == ("u", 4096, 2 << 30)
    kept = options.leftovers
    assert (kept.delay_s, kept.most_tasks, kept.most_executors, kept.headroom) == (3600.0, 3, 0, 0.5)
    assert (options.isolation, options.insecure, options.ephemeral) == ("noop", True, True)


def test_every_option_of_a_master_has_its_place() -> None:
    words = (
        "--ip 10.0.0.7 --port 0 --insecure --state-dir /s --address-file /a --allocator priority --minimum-offer cpus=1 "
        "--offer-timeout 1s --revoke-after 2s --revoke-grace 3s --operator-grace 4s --max-failover-timeout 5s "
        "--ping-interval 6s --missed-pings 7 --zk z:2181/offerd --zk-session-timeout 8s --advertise-ip 10.0.0.8 "
        "--advertise-port 9 --weights gold=2"
    )
    options = master_options(MasterFile(), None, typed(MASTER, *words.split()))
    settings = options.settings
    assert (options.ip, options.port, options.insecure, options.secret) == ("10.0.0.7", 0, True, "")
    assert (options.state_dir, options.address_file) == (Path("/s"), Path("/a"))
    assert (options.zookeeper, options.session_timeout_s) == (parse_zookeeper("z:2181/offerd"), 8.0)
    assert (options.advertise_ip, options.advertise_port) == ("10.0.0.8", 9)
    assert (settings.allocator, settings.minimum_offer) == ("priority", Resources.of(cpus=1))
    assert (settings.offer_timeout_s, settings.revoke_after_s, settings.revoke_grace_s) == (1.0, 2.0, 3.0)
    assert (settings.operator_grace_s, settings.max_failover_timeout_s) == (4.0, 5.0)
    assert (settings.ping_interval_s, settings.max_missed_pings) == (6.0, 7)
    assert settings.policy.roles["gold"].weight == 2.0


def test_a_local_clusters_slaves_get_the_options_of_the_command_line() -> None:
    words = ["--isolation", "noop", "--cpu-quota", "--short-limit", "90s", "--long-fraction", "0.25"]
    assert LOCAL_SLAVES.command_line(typed(LOCAL_SLAVES, *words)) == words


def test_only_options_with_a_default_of_their_own_take_an_empty_text_for_it() -> None:
    table = OptionTable(
        SlaveOptions(), (Setting("hostname", "--hostname", SLAVE.rows[0].kind, "Name of it.", unset=""),)
    )
    assert table.read({"hostname": ""}) == SlaveOptions()
    table = OptionTable(table.defaults, (replace(table.rows[0], unset=None),))
    assert table.read({"hostname": "x"}).hostname == "x"


@pytest.mark.parametrize(
    "seconds", [0.0, 0.0005, 0.5, 1.0, 1.25, 60.0, 3661.0, 86400.0, 7 * 86400.0, 1234.5678]
)
def test_a_default_in_seconds_is_shown_as_it_may_be_typed(seconds: float) -> None:
    assert parse_duration(exact_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("slave --log-size 1K", "--log-size 1K is less than 4K; give logs some room"),
        ("slave --disk-per-task 1K", "--disk-per-task 1K is less than 1M"),
        ("slave --default-task-mem 8", "--default-task-mem 8 has no unit"),
        ("slave --kill-grace 40s", "--kill-grace 40s is longer than --max-kill-grace 30s"),
        ("slave --gc-disk-headroom nan", "nan is not a number from 0 to 1"),
        ("local --long-fraction nan", "nan is not a number from 0 to 1"),
        ("local --pids-max 1", "--pids-max '1' is neither a number from 2"),
        ("master --key k", "--key and --authorized go together"),
        ("master --zk-credentials f", "--zk-credentials needs --zk"),
        ("master --zk-session-timeout 500ms", "--zk-session-timeout must be 1s or more"),
        ("master --ping-interval 0s", "ping_interval_s must be more than zero seconds"),
    ],
)
def test_bad_values_are_refused_in_one_line_and_nothing_starts(
    words: str, complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run_master", lambda options: pytest.fail(f"started with {options}"))
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_a_row_without_its_field_is_found_when_the_command_is_made() -> None:
    row = Setting("no_such", "--no-such", TIME, "Nothing at all.")
    with pytest.raises(AttributeError):
        OptionTable(SlaveOptions(), (row,)).options(lambda: None)
