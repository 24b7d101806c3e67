"""Any message that its reader takes, with a liking for what lies at the bounds: what a hostile peer would send."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from offerd import codec
from offerd.bounds import MAX_AMOUNT, MAX_LISTS, MAX_NAMES
from offerd.resources import Resources

WORDS = ["", "x", "F-9-1", "S-9-1", "t1", "default", "../..", "a b", "\n", "\x1b[2J", "x" * 200]
"""Names that may mean something to somebody, and others."""
MANY = [40, 300]
"""Of the same in one list."""

AMOUNT = st.one_of(
    st.integers(1, 5000), st.integers(1, MAX_AMOUNT), st.sampled_from([MAX_AMOUNT, MAX_AMOUNT - 1, 1 << 53])
)
NAMES = st.sampled_from(["cpus", "mem", "gpus", "ports", "disks", "x" * 40, "ü" * 64])


def _spans(start: int, length: int, count: int) -> list[tuple[int, int]]:
    """So many ranges with a number between each two, as far as numbers go."""
    found: list[tuple[int, int]] = []
    while len(found) < count and start + length <= MAX_AMOUNT:
        found.append((start, start + length))
        start += length + 2
    return found or [(0, MAX_AMOUNT)]


RANGES = st.builds(
    _spans, st.integers(0, MAX_AMOUNT), st.integers(0, MAX_AMOUNT), st.sampled_from([1, 1, 2, 2, 300])
)
RESOURCES = st.one_of(
    st.builds(
        Resources,
        st.dictionaries(NAMES, AMOUNT, max_size=3),
        st.dictionaries(NAMES, RANGES, max_size=2),
        st.dictionaries(NAMES, st.sampled_from([["a"], ["a", "b"], ["ü" * 64]]), max_size=2),
    ),
    st.builds(lambda amount: Resources({f"{n:>040}": amount for n in range(MAX_NAMES)}), AMOUNT),
    st.builds(lambda spans: Resources({}, {f"r{n}": spans for n in range(MAX_LISTS)}), RANGES),
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as `msgspec.inspect` describes it."""
    match kind:
        case inspect.IntType(ge=int(least), le=int(most)):
            ends = [number for number in (least, most, 0, 1) if least <= number <= most]
            return st.one_of(st.sampled_from(ends), st.integers(least, most))
        case inspect.FloatType(ge=(float() | int()) as low, le=(float() | int()) as high):
            marks = [float(number) for number in (low, high, 0, 1) if low <= number <= high]
            return st.one_of(st.sampled_from(marks), st.floats(low, high))
        case inspect.StrType(max_length=int(length)):
            longest = st.sampled_from([letter * min(length, 2_000) for letter in "xü"])
            words = st.sampled_from([word[:length] for word in WORDS])
            return st.one_of(words, words, words, st.text(max_size=10), longest)
        case inspect.BytesType():
            return st.one_of(st.binary(max_size=20), st.just(b"\0" * 30_000))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.ListType():
            item = of_type(kind.item_type)
            few = st.lists(item, max_size=3)
            if isinstance(kind.item_type, inspect.StructType | inspect.ListType):
                return few
            many = st.builds(lambda one, count: [one] * count, item, st.sampled_from(MANY))
            return st.one_of(few, few, few, many)
        case inspect.DictType():
            return st.dictionaries(of_type(kind.key_type), of_type(kind.value_type), max_size=2)
        case inspect.TupleType():
            return st.tuples(*map(of_type, kind.item_types))
        case inspect.UnionType():
            return st.one_of(*map(of_type, kind.types))
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.StructType():
            return of_struct(kind.cls)
    raise AssertionError(f"no values are known of {kind}")


def of_struct(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any value of a message or of what messages carry."""
    if kind is Resources:
        return RESOURCES
    fields = inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return st.deferred(lambda: st.builds(kind, **{field.name: of_type(field.type) for field in fields}))


def is_read_by(reader: codec.Codec[Any], message: Any) -> bool:
    """Whether the message is no larger than its reader takes."""
    return len(codec.encode_message(message)) < codec.MAX_EXECUTOR_BYTES and type(message) in reader.types
