"""Resources: exact arithmetic, texts that can be read back, and an error of one line for everything invalid."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from offerd.errors import BadResources
from offerd.resources import (
    BYTE_SCALARS,
    MAX_QUANTITY,
    NOTHING,
    Resources,
    format_scalar,
    parse_scalar,
    total,
)
from offerd.values import ranges as rng

SCALAR_NAMES = st.sampled_from(["cpus", "mem", "disk", "gpus", "fpga.v2", "a-b_c"])
RANGE_NAMES = st.sampled_from(["ports", "vlans"])
SET_NAMES = st.sampled_from(["disks", "zones"])
AMOUNTS = st.integers(1, 1 << 50)
SPANS = st.tuples(st.integers(0, 200), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
WORDS = st.from_regex(r"[A-Za-z0-9_./:-]{1,6}", fullmatch=True)


@st.composite
def resources(draw: st.DrawFn) -> Resources:
    """Any normal amount."""
    spans = draw(
        st.dictionaries(RANGE_NAMES, st.lists(SPANS, min_size=1, max_size=4).map(rng.union), max_size=2)
    )
    words = st.lists(WORDS, min_size=1, max_size=4, unique=True).map(sorted)
    return Resources(
        draw(st.dictionaries(SCALAR_NAMES, AMOUNTS, max_size=4)),
        spans,
        draw(st.dictionaries(SET_NAMES, words, max_size=2)),
    )


def disjoint(a: Resources, b: Resources) -> bool:
    """Whether no port and no word is in both: neither can be taken twice."""
    overlap = [
        name
        for name in a.ranges
        if rng.size(rng.union(a.ranges[name] + b.ranges.get(name, [])))
        != (rng.size(a.ranges[name]) + rng.size(b.ranges.get(name, [])))
    ]
    return not overlap and not any(set(a.sets[name]) & set(b.sets.get(name, ())) for name in a.sets)


@given(resources())
def test_parse_reads_back_what_str_writes(amount: Resources) -> None:
    text = str(amount)
    assert (Resources.parse(text) if amount else NOTHING) == amount


@given(resources(), resources())
def test_what_is_added_can_be_taken_out_again(a: Resources, b: Resources) -> None:
    assume(disjoint(a, b))
    assert (a + b) - b == a
    assert (a + b) - a == b


@given(resources(), resources())
def test_addition_does_not_depend_on_the_order(a: Resources, b: Resources) -> None:
    assert a + b == b + a


@given(resources(), resources())
def test_covers_exactly_what_can_be_subtracted(a: Resources, b: Resources) -> None:
    if a.covers(b):
        a - b
    else:
        with pytest.raises(BadResources):
            a - b


@given(resources(), resources())
def test_a_sum_covers_its_parts_and_their_total_is_the_sum(a: Resources, b: Resources) -> None:
    assert (a + b).covers(a)
    assert (a + b).covers(b)
    assert total([a, b]) == a + b


@given(resources())
def test_quantities_count_the_members_of_ranges_and_sets(amount: Resources) -> None:
    quantities = amount.quantities()
    for name, spans in amount.ranges.items():
        assert quantities[name] == len({n for first, last in spans for n in range(first, last + 1)})
    for name, words in amount.sets.items():
        assert quantities[name] == len(words)
    assert {name: quantities[name] for name in amount.scalars} == amount.scalars


@given(resources())
def test_the_wire_gives_back_the_same_amount(amount: Resources) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(amount), type=Resources) == amount


@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6))
def test_range_arithmetic_is_that_of_sets_of_numbers(a: list[rng.Range], b: list[rng.Range]) -> None:
    def numbers(spans: list[rng.Range]) -> set[int]:
        return {n for first, last in spans for n in range(first, last + 1)}

    joined = rng.union(a)
    assert numbers(joined) == numbers(a)
    assert rng.union(joined) == joined
    assert rng.size(joined) == len(numbers(a))
    assert numbers(rng.subtract(joined, rng.union(b))) == numbers(a) - numbers(b)
    assert rng.covers(joined, rng.union(b)) == (numbers(b) <= numbers(a))


@given(SCALAR_NAMES, st.integers(0, MAX_QUANTITY))
def test_scalars_read_back_exactly(name: str, amount: int) -> None:
    assert parse_scalar(name, format_scalar(name, amount), bare_bytes=True) == amount


def test_units_are_those_that_people_write() -> None:
    amount = Resources.parse("cpus=4, mem=8G,disk=1.5T,gpus=0.5,ports=[31000-32000,33000],zones={b,a}")
    assert amount.scalars == {"cpus": 4000, "mem": 8 << 30, "disk": 3 << 39, "gpus": 500}
    assert amount.ranges == {"ports": [(31000, 32000), (33000, 33000)]}
    assert amount.sets == {"zones": ["a", "b"]}
    assert Resources.parse("mem=512MiB") == Resources.parse("mem=512MB") == Resources.parse("mem=512m")
    assert Resources.of(cpus=0.1, mem=1024) == Resources({"cpus": 100, "mem": 1024})


def test_a_thousand_tasks_of_a_thousandth_fit_exactly_into_one_cpu() -> None:
    left = Resources.of(cpus=1)
    for _ in range(1000):
        left = left - Resources.of(cpus=0.001)
    assert left == NOTHING


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cpus", "'cpus'"),
        ("=4", "'=4'"),
        ("cpus=", "cpus="),
        ("cpus=four", "cpus=four"),
        ("cpus=-1", "cpus=-1"),
        ("cpus=nan", "cpus=nan"),
        ("cpus=Infinity", "cpus=Infinity"),
        ("cpus=0.0001", "cpus=0.0001"),
        ("cpus=1e30", "cpus=1e30"),
        ("cpus=1,cpus=2", "cpus is given twice"),
        ("mem=8", "mem=8"),
        ("mem=8Q", "mem=8Q"),
        ("mem=-1G", "mem=-1G"),
        ("mem=99999999P", "mem=99999999P"),
        ("1cpu=4", "'1cpu=4'"),
        ("ports=[5-1]", "5-1"),
        ("ports=[a-b]", "a-b"),
        ("ports=[1-2", "ports=[1-2"),
        ("ports=[1-2]x", "ports=[1-2]x"),
        ("zones={a b}", "'a b'"),
        ("zones={a", "zones={a"),
        ("cpus=1;mem=1G", "cpus=1;mem=1G"),
    ],
)  # fmt: skip
def test_a_bad_text_gives_one_line_that_names_the_part(text: str, named: str) -> None:
    with pytest.raises(BadResources) as caught:
        Resources.parse(f"gpus=1,{text}")
    message = str(caught.value)
    assert named in message
    assert "\n" not in message


@given(st.text(max_size=30) | st.text("cpusmemports=,[]{}-019.e\n\r\v GM", max_size=30))
@example("cpus=1\n2")
@example("ports=[1\n-2]")
@example("zones={a\nb}")
@example("a\nb")
def test_any_text_parses_or_raises_bad_resources_in_one_line(text: str) -> None:
    try:
        Resources.parse(text)
    except BadResources as error:
        message = str(error)
    else:
        message = "it parsed"
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "wire",
    [
        [{"cpus": 0}],
        [{"cpus": -1}],
        [{"cpus": 1 << 63}],
        [{}, {"ports": []}],
        [{}, {"ports": [[5, 1]]}],
        [{}, {"ports": [[3, 4], [1, 2]]}],
        [{}, {"ports": [[1, 2], [3, 4]]}],
        [{}, {"ports": [[-2, -1]]}],
        [{}, {}, {"zones": []}],
        [{}, {}, {"zones": ["b", "a"]}],
        [{}, {}, {"zones": ["a", "a"]}],
    ],
)
def test_an_amount_that_is_not_normalized_is_refused_on_the_wire(wire: object) -> None:
    with pytest.raises((msgspec.ValidationError, BadResources)):
        msgspec.msgpack.decode(msgspec.msgpack.encode(wire), type=Resources)


def test_byte_scalars_are_those_in_the_table() -> None:
    assert frozenset({"mem", "disk"}) == BYTE_SCALARS
    assert format_scalar("mem", 1536 << 20) == "1536M"
    assert format_scalar("cpus", 20) == "0.02"
