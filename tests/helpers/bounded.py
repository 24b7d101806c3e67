"""Random messages that a reader accepts, often with values at the bounds, as a hostile peer would send.

They are made from a seed, as Hypothesis takes minutes for values of this size; a failing seed fails again.
"""

from __future__ import annotations

import random
from typing import Any

from msgspec import inspect

from offerd.resources import Resources
from offerd.values.bounds import MAX_AMOUNT, MAX_LISTS, MAX_NAMES
from offerd.wire import codec

WORDS = ["", "x", "F-9-1", "S-9-1", "t1", "default", "../..", "a b", "\n", "\x1b[2J", "x" * 200]
"""Names that may exist in a test, and others."""
NAMES = ["cpus", "mem", "gpus", "ports", "disks", "x" * 40, "ü" * 64]


class Maker:
    """Draws messages from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def message(self, kinds: tuple[type, ...]) -> Any:
        """A message of one of these kinds, not larger than the limit."""
        while True:
            made = self.struct(self.random.choice(kinds))
            if len(codec.encode_message(made)) < codec.MAX_EXECUTOR_BYTES:
                return made

    def struct(self, kind: type[Any]) -> Any:
        """A random value of this struct."""
        if kind is Resources:
            return self._resources()
        fields = inspect.type_info(kind).fields  # type: ignore[attr-defined]
        # Some fields keep their defaults, or no message would ever pass all checks.
        return kind(
            **{
                field.name: self._of_type(field.type)
                for field in fields
                if field.required or self.random.random() < 0.6
            }
        )

    def _of_type(self, kind: Any) -> Any:
        draw = self.random
        match kind:
            case inspect.IntType(ge=int(least), le=int(most)):
                ends = [number for number in (least, most, 0, 1) if least <= number <= most]
                return draw.choice([*ends, draw.randint(least, most)])
            case inspect.FloatType(ge=(float() | int()) as low, le=(float() | int()) as high):
                marks = [float(number) for number in (low, high, 0, 1) if low <= number <= high]
                return draw.choice([*marks, draw.uniform(low, high)])
            case inspect.StrType(max_length=int(length)):
                longest = draw.choice("xü") * (length if length <= 256 or draw.random() < 0.1 else 256)
                return draw.choice([*WORDS, longest])[:length]
            case inspect.BytesType(max_length=int(length)):
                return draw.randbytes(draw.choice([0, 3, 3, 40_000]))[:length]
            case inspect.BoolType():
                return draw.random() < 0.5
            case inspect.NoneType():
                return None
            case inspect.ListType():
                if isinstance(kind.item_type, inspect.StructType | inspect.ListType):
                    return [self._of_type(kind.item_type) for _ in range(draw.choice([0, 1, 1, 2, 3]))]
                return [self._of_type(kind.item_type)] * min(
                    draw.choice([0, 1, 1, 2, 500]), kind.max_length or 0
                )
            case inspect.DictType():
                return {
                    self._of_type(kind.key_type): self._of_type(kind.value_type)
                    for _ in range(draw.choice([0, 1, 2, 30]))
                }
            case inspect.TupleType():
                return tuple(map(self._of_type, kind.item_types))
            case inspect.UnionType():
                return self._of_type(draw.choice(kind.types))
            case inspect.EnumType():
                return draw.choice(list(kind.cls))
            case inspect.StructType():
                return self.struct(kind.cls)
        raise AssertionError(f"no values are known of {kind}")

    def _amount(self) -> int:
        draw = self.random
        return draw.choice([draw.randint(1, 5000), draw.randint(1, MAX_AMOUNT), MAX_AMOUNT, 1 << 53])

    def _spans(self) -> list[tuple[int, int]]:
        """Some ranges with gaps between them, up to the largest numbers."""
        draw = self.random
        start, length = draw.choice([0, 1, 31_000, draw.randint(0, MAX_AMOUNT)]), draw.choice([0, 1, 1000])
        found: list[tuple[int, int]] = []
        for _ in range(draw.choice([1, 1, 2, 300, 4096])):
            if start + length > MAX_AMOUNT:
                break
            found.append((start, start + length))
            start += length + 2
        return found or [(0, MAX_AMOUNT)]

    def _resources(self) -> Resources:
        draw = self.random
        if draw.random() < 0.05:
            return Resources({f"{number:>040}": self._amount() for number in range(MAX_NAMES)})
        if draw.random() < 0.05:
            return Resources({}, {f"r{number}": self._spans() for number in range(MAX_LISTS)})
        names = draw.sample(NAMES, draw.choice([0, 1, 1, 2]))
        return Resources(
            {name: self._amount() for name in draw.sample(NAMES, draw.choice([0, 1, 2]))},
            {name: self._spans() for name in names if draw.random() < 0.3},
            {name: draw.choice([["a"], ["a", "b"], ["ü" * 64]]) for name in names if draw.random() < 0.3},
        )
