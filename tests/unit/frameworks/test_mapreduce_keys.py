"""Keys as Hadoop's properties define them: where they end, how they are compared, and which reduce gets them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd import BadInput
from offerd_frameworks.mapreduce import keys, map_task, reduce_task
from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.keys import COMPARE, KEY_SEPARATOR, MAP_FIELDS, MAP_SEPARATOR, PARTITION
from offerd_frameworks.mapreduce.streaming import COMMANDS, Reporter

NUMBERS = st.from_regex(r"\A-?[0-9]{0,4}(\.[0-9]{0,3})?\Z") | st.sampled_from(
    ["", "x", "-", "-0", "00", "0.0", "1e3"]
)
TEXTS = st.text("ab\x00\t\x0b\x0c\xff", max_size=3)
FIELDS = st.tuples(NUMBERS, TEXTS, NUMBERS.filter(bool)).map(
    lambda fields: ",".join(fields).encode("latin-1")
)
"""The last one is not empty: that one is there for `sort`, and is not for Hadoop."""
OPTIONS = [
    "-k1,1n", "-k1,1nr", "-k2,2", "-k2,2r", "-k2,2r -k1,1n", "-k3,3nr -k2,2", "-k2", "-n", "-r", "-nr", "-k2,2 -k1,1 -r",
    "-k1,2", "-k 3,3n",
]  # fmt: skip


def of(**properties: Any) -> keys.Keys:
    names = {
        "fields": MAP_FIELDS,
        "separator": MAP_SEPARATOR,
        "within": KEY_SEPARATOR,
        "by": COMPARE,
        "to": PARTITION,
    }
    return keys.read({names[name]: str(value) for name, value in properties.items()})


@given(st.lists(FIELDS, max_size=20), st.sampled_from(OPTIONS))
def test_keys_are_in_the_order_of_gnu_sort_with_the_same_options(lines: list[bytes], options: str) -> None:
    rules = of(within=",", by=options)
    whole_key_is_reversed = options.endswith("-r") or options in ("-r", "-nr")
    done = subprocess.run(
        ["sort", "-z", "-t", ",", *options.replace("-k ", "-k").split()],
        input=b"".join(line.replace(b"\0", b"\1") + b"\0" for line in lines),
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=True,
    )
    expected = done.stdout.split(b"\0")[:-1]
    ours = sorted((line.replace(b"\0", b"\1") for line in lines), key=rules.order)
    if whole_key_is_reversed:  # there it reverses also the last comparison, of what is equal otherwise
        assert [_equal_part(rules, line) for line in ours] == [_equal_part(rules, line) for line in expected]
    else:
        assert ours == expected
    assert not any(set(rules.order(line)) & set(b"\t\n") for line in lines)


def _equal_part(rules: keys.Keys, line: bytes) -> bytes:
    order = rules.order(line)
    return order.removesuffix(keys.Keys().order(line))


@given(st.lists(st.binary(max_size=6).filter(lambda key: b"\n" not in key)))
def test_without_options_keys_are_compared_as_bytes(lines: list[bytes]) -> None:
    assert sorted(lines, key=of(fields=2).order) == sorted(lines)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("-k1,1", b"abc"),
        ("-k2,2", b"def"),
        ("-k2", b"def.ghi"),
        ("-k1.2,1.2", b"b"),
        ("-k1.2,2.1", b"bc.d"),
        ("-k2.3", b"f.ghi"),
        ("-k3,9", b"ghi"),
        ("-k4,4", None),
        ("-k3.4", None),
    ],
)
def test_fields_and_characters_are_counted_as_hadoop_does(options: str, part: bytes | None) -> None:
    (spec,) = of(within=".", to=options).partition
    key = b"abc.def.ghi"
    assert keys._part(key, keys._starts(key, b"."), spec, 1) == part


@pytest.mark.parametrize(
    ("key", "number"), [(b"hello", 99162322 % 1000), (b"", 0), ("é".encode(), (2**31 - 1978) % 1000)]
)
def test_a_key_goes_to_the_reduce_that_it_goes_to_in_hadoop(key: bytes, number: int) -> None:
    """Java's `"hello".hashCode()` is 99162322; its bytes are signed."""
    assert of(to="-k1,1").partition_of(key + b"\tmore", 1000) == number


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({MAP_FIELDS: "0"}, "is not a number of fields"),
        ({MAP_FIELDS: "two"}, "is not a number of fields"),
        ({MAP_SEPARATOR: ""}, "at least one character"),
        ({COMPARE: "-k2,2x"}, "is not an option"),
        ({COMPARE: "-k0"}, "counted from 1 on"),
        ({COMPARE: "2"}, "is not an option"),
        ({PARTITION: "-k1,1n"}, "not how they are compared"),
        ({keys.COMPARATOR: "org.mine.Comparator"}, "only KeyFieldBasedComparator is supported"),
        ({PARTITION: "-k1,1", "mapred.text.key.partitioner.options": "-k2,2"}, "given twice"),
    ],
)
def test_impossible_properties_are_bad_input(properties: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        keys.read(properties)


def test_old_names_mean_the_same() -> None:
    old = {"mapred.text.key.comparator.options": "-k2,2n", "num.key.fields.for.partition": "2"}
    assert keys.read(old) == of(by="-k2,2n", to="-k1,2")
    assert keys.of_keys({**old, "a.b": "x"}) == {COMPARE: "-k2,2n", PARTITION: "-k1,2"}


# -- Through the tasks ----------------------------------------------------------------------------------------------

DOTS = {MAP_SEPARATOR: ".", MAP_FIELDS: "4", KEY_SEPARATOR: "."}
LINES = [b"11.12.1.2.a", b"11.14.2.3.b.b", b"11.11.4.1.", b"11.12.1.1.c", b"11.14.2.2", b"11.14"]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFERD_CONTAINER_ID", "c1")
    return tmp_path


def mapped(directory: Path, lines: list[bytes], name: str = "m", **more: Any) -> list[bytes]:
    """Run a map; returns what it leaves in its directory."""
    (directory / "in").write_bytes(b"\n".join(lines))
    (directory / name / COMMANDS).mkdir(parents=True)
    os.chdir(directory / name)
    size = (directory / "in").stat().st_size
    task = {
        "mapper": "cat", "combiner": "", "reads_pieces": False, "pieces": [[str(directory / "in"), 0, size, 0]],
        "block": "", "places": [], "sort_bytes": 4 << 20, "reduces": 3, "job": {}, "environment": {}, **more,
    }  # fmt: skip
    map_task.run(task, Reporter())
    return Path("output").read_bytes().split(b"\n")[:-1]


def reduced(directory: Path, part: int, reducer: str = "cat", **more: Any) -> list[bytes]:
    """What a reduce makes of the output of the map `m`, of the part that fields decide."""
    bounds = [None, *(key.decode() for key in keys.boundaries(3)), None]
    (directory / f"r{part}" / COMMANDS).mkdir(parents=True)
    os.chdir(directory / f"r{part}")
    task = {
        "reducer": reducer, "low": bounds[part], "high": bounds[part + 1], "containers": [[["127.0.0.1:1", "", ""], "c1"]],
        "maps": [[0, "m", (directory / "m/output").stat().st_size]], "index_digests": "", "by_key": True, "job": {},
        "environment": {}, **more,
    }  # fmt: skip
    reduce_task.run(task, Reporter(), lambda *_: None)
    return Path("output").read_bytes().split(b"\n")[:-1]


@pytest.mark.parametrize("combiner", ["", "tr '\\t' ."])
def test_fields_decide_who_reduces_and_each_reduce_gets_all_lines_in_order(
    directory: Path, combiner: str
) -> None:
    """Hadoop's own example: keys of four fields, of which two decide."""
    rules = {**DOTS, PARTITION: "-k1,2"}
    mapped(directory, LINES, keys=rules, combiner=combiner)
    parts = [reduced(directory, part, keys=rules) for part in range(3)]
    shown = {
        b"11.11": [b"11.11.4.1\t"],
        b"11.12": [b"11.12.1.1\tc", b"11.12.1.2\ta"],
        b"11.14": [b"11.14", b"11.14.2.2", b"11.14.2.3\tb.b"],
    }
    for lines in parts:
        groups = {line[:5] for line in lines}
        assert lines == sorted(line for group in groups for line in shown[group])
    assert sorted(line for lines in parts for line in lines) == sorted(
        line for lines in shown.values() for line in lines
    )
    numbers = {group: keys.read(rules).partition_of(group + b".1.1", 3) for group in shown}
    assert all(shown[group][0] in parts[number] for group, number in numbers.items())


def test_a_reducer_gets_and_shows_other_separators(directory: Path) -> None:
    rules = {**DOTS, COMPARE: "-k4,4nr", keys.REDUCE_INPUT_SEPARATOR: "|", keys.REDUCE_SEPARATOR: "|"}
    mapped(directory, LINES[:2], keys=rules)
    lines = reduced(directory, 0, "tee seen", keys=rules, low=None, high=None)
    assert Path(COMMANDS, "seen").read_bytes() == b"11.14.2.3|b.b\n11.12.1.2|a\n"
    assert lines == [b"11.14.2.3\tb.b", b"11.12.1.2\ta"]


def test_without_reduces_the_key_is_shown_as_such(directory: Path) -> None:
    assert mapped(directory, [b"a.b.c", b"a"], keys={MAP_SEPARATOR: "."}, reduces=0) == [b"a\tb.c", b"a"]


def test_the_usual_keys_travel_as_they_are(directory: Path) -> None:
    assert mapped(directory, [b"b\t2", b"a"], keys={MAP_FIELDS: "1", MAP_SEPARATOR: "\t"}) == [b"a", b"b\t2"]


@pytest.mark.parametrize("what", ["mapper", "combiner", "reducer"])
def test_a_status_other_than_0_is_no_failure_if_the_job_says_so(directory: Path, what: str) -> None:
    more = {} if what == "reducer" else {what: "cat; exit 3"}
    lines = mapped(directory, [b"a\t1"], any_status=True, keys={}, **more)
    if what == "reducer":
        lines = reduced(directory, 0, "cat; exit 3", any_status=True, high=None)
    assert lines == [b"a\t1"]


@pytest.mark.parametrize("mapper", ["cat; exit 3", "kill -9 $$"])
def test_otherwise_such_a_status_is_a_failure_and_being_killed_always_is(
    directory: Path, mapper: str
) -> None:
    with pytest.raises(CommandFailed, match=r"ended with status 3|killed by SIGKILL"):
        mapped(directory, [b"a"], mapper=mapper, any_status="kill" in mapper)
