"""Options for limits, as people write them."""

from __future__ import annotations

import pytest

from offerd.errors import BadInput
from offerd_cli.limit_options import LIMITS
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions

USUAL = {"cpu_quota": False, "pids_max": "1024", "io_weight": False, "io_max": (), "cpuset": ""}


def options(**words: object) -> IsolationOptions:
    return LIMITS.read(USUAL | words)


def test_no_option_means_the_default() -> None:
    assert options() == DEFAULT_OPTIONS


def test_options_are_read() -> None:
    found = options(cpu_quota=True, pids_max="max", io_max=("8:16:rbps=50M,wiops=200",), cpuset="0")
    assert found.cpu_quota
    assert found.pids_max is None
    assert found.io_max == (("8:16", (("rbps", 50 << 20), ("wiops", 200))),)
    assert found.cpuset == {0}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"pids_max": "1"}, "--pids-max '1' is neither a number from 2"),
        ({"pids_max": "many"}, "--pids-max 'many'"),
        ({"io_max": ("sda:rbps=1M",)}, "write /dev/sda:rbps=50M"),
        ({"io_max": ("8:0:speed=1M",)}, "'speed' is not one of rbps"),
        ({"io_max": ("8:0:wiops=fast",)}, "wiops must be a number above 0"),
        ({"io_max": ("/dev/no-such-disk:rbps=1M",)}, "No such file"),
        ({"io_max": ("/etc/hostname:rbps=1M",)}, "is not a device"),
        ({"cpuset": "1-"}, "is neither a cpu"),
        ({"cpuset": "100000"}, "has no CPU 100000"),
    ],
)
def test_bad_values_are_refused_in_one_line(words: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        options(**words)


def test_a_local_clusters_slaves_get_the_same_limits() -> None:
    given = {
        "cpu_quota": True,
        "pids_max": "99",
        "io_weight": True,
        "io_max": ("8:0:rbps=1M",),
        "cpuset": "0",
    }
    assert LIMITS.command_line(given) == [
        "--cpu-quota", "--pids-max", "99", "--io-weight", "--io-max", "8:0:rbps=1M", "--cpuset", "0",
    ]  # fmt: skip
