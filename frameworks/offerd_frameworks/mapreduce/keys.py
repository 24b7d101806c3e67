"""Which part of a line is its key, how keys are compared, and which reduce gets them: Hadoop's properties for that.

Sort, index, ranges and merge know one kind of key: all before the first TAB, compared as bytes. If a job says otherwise, each
line gets such a key in front (`Keys.forth`) on its way from map to reduce, and loses it (`Keys.back`) before a command reads
it. That key compares as the fields do, and begins with the number of a reduce if fields decide who reduces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from offerd import BadInput

TAB = b"\t"
MAP_FIELDS = "stream.num.map.output.key.fields"
MAP_SEPARATOR = "stream.map.output.field.separator"
REDUCE_INPUT_SEPARATOR = "stream.reduce.input.field.separator"
REDUCE_FIELDS = "stream.num.reduce.output.key.fields"
REDUCE_SEPARATOR = "stream.reduce.output.field.separator"
KEY_SEPARATOR = "mapreduce.map.output.key.field.separator"
PARTITION = "mapreduce.partition.keypartitioner.options"
COMPARE = "mapreduce.partition.keycomparator.options"
PARTITIONER = "mapreduce.job.partitioner.class"
COMPARATOR = "mapreduce.job.output.key.comparator.class"
NAMES = (
    MAP_FIELDS, MAP_SEPARATOR, REDUCE_INPUT_SEPARATOR, REDUCE_FIELDS, REDUCE_SEPARATOR, KEY_SEPARATOR, PARTITION, COMPARE,
    PARTITIONER, COMPARATOR,
)  # fmt: skip
OLD_NAMES = {
    "map.output.key.field.separator": KEY_SEPARATOR,
    "mapred.text.key.partitioner.options": PARTITION,
    "mapred.text.key.comparator.options": COMPARE,
    "mapred.partitioner.class": PARTITIONER,
    "mapred.output.key.comparator.class": COMPARATOR,
}
FIELDS_FOR_PARTITION = "num.key.fields.for.partition"
CLASSES = {
    PARTITIONER: ("KeyFieldBasedPartitioner", PARTITION),
    COMPARATOR: ("KeyFieldBasedComparator", COMPARE),
}
MAX_FIELDS = 1000


class Spec(NamedTuple):
    """`-k` of an option: the first and last position (from 1 on; 0: to the end), and how it is compared."""

    field: int = 1
    char: int = 1
    last_field: int = 0
    last_char: int = 0
    is_numeric: bool = False
    is_reverse: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """A job's definition of its keys."""

    fields: int = 1
    separator: bytes = TAB
    reduce_input_separator: bytes = TAB
    reduce_fields: int = 1
    reduce_separator: bytes = TAB
    key_separator: bytes = TAB
    partition: tuple[Spec, ...] = ()
    compare: tuple[Spec, ...] = ()

    @property
    def is_usual(self) -> bool:
        """A key ends at the first TAB, is compared as bytes, and as a whole decides who reduces it."""
        ends = (self.fields, self.separator, self.reduce_input_separator)
        return ends == (1, TAB, TAB) and not self.partition and not self.compare

    def split(self, line: bytes) -> tuple[bytes, bytes | None]:
        """Key and value of a mapper's or combiner's line; the value is None if there are too few separators."""
        return _split(line, self.separator, self.fields)

    def forth(self, reduces: int) -> Callable[[bytes], bytes]:
        """The function that turns a line (without its end) into what is sent from map to reduce."""

        def decorate(line: bytes) -> bytes:
            key, value = self.split(line)
            number = b"%05d" % self.partition_of(key, reduces) if self.partition else b""
            shown = key if value is None else key + self.reduce_input_separator + value
            return number + self.order(key) + TAB + shown

        return decorate

    @staticmethod
    def back(line: bytes) -> bytes:
        """The opposite of `forth`: a line as a reducer or combiner reads it."""
        return line.partition(TAB)[2]

    def of_map(self, line: bytes) -> bytes:
        """A mapper's line as it stands in the output of a job without reduces."""
        key, value = self.split(line)
        return key if value is None else key + TAB + value

    def of_reduce(self, line: bytes) -> bytes:
        """A reducer's line as it stands in the output."""
        key, value = _split(line, self.reduce_separator, self.reduce_fields)
        return key if value is None else key + TAB + value

    def order(self, key: bytes) -> bytes:
        """Bytes without TAB and line end that compare as the keys do; keys that compare as equal are ordered by their bytes."""
        if not self.compare:
            return _escaped(key)
        fields = _starts(key, self.key_separator)
        return b"".join(
            _code(_part(key, fields, spec, len(self.key_separator)), spec) for spec in self.compare
        ) + _escaped(key)

    def partition_of(self, key: bytes, reduces: int) -> int:
        """Which of so many reduces gets the key: the same as in Hadoop."""
        return _partition(key, self.key_separator, self.partition, reduces)


def boundaries(reduces: int) -> list[bytes]:
    """The boundaries between the keys of each reduce, if fields decide that."""
    return [b"%05d" % number for number in range(1, reduces)]


# -- Lines ----------------------------------------------------------------------------------------------------------


def _split(line: bytes, separator: bytes, fields: int) -> tuple[bytes, bytes | None]:
    at = -len(separator)
    for _ in range(fields):
        at = line.find(separator, at + len(separator))
        if at < 0:
            return line, None
    return line[:at], line[at + len(separator) :]


def _starts(key: bytes, separator: bytes) -> list[int]:
    """Where each field begins, and where another one would begin after the end."""
    starts = [0]
    while (at := key.find(separator, starts[-1])) >= 0:
        starts.append(at + len(separator))
    return [*starts, len(key) + len(separator)]


def _part(key: bytes, starts: list[int], spec: Spec, separator_bytes: int) -> bytes | None:
    """The bytes that `spec` selects; None if there are none."""
    if spec.field >= len(starts) or (start := starts[spec.field - 1] + spec.char - 1) >= len(key):
        return None
    end = len(key)
    if 0 < spec.last_field < len(starts):
        if spec.last_char:
            end = min(end, starts[spec.last_field - 1] + spec.last_char)
        else:
            end = starts[spec.last_field] - separator_bytes
    return key[start:end]


@lru_cache(maxsize=10_000)
def _partition(key: bytes, separator: bytes, specs: tuple[Spec, ...], reduces: int) -> int:
    """`KeyFieldBasedPartitioner`: Java's hash of the bytes, which are signed in Java."""
    starts = _starts(key, separator)
    value = 0
    for spec in specs:
        for byte in _part(key, starts, spec, len(separator)) or b"":
            value = (31 * value + (byte ^ 0x80) - 0x80) & 0xFFFFFFFF
    return (value & 0x7FFFFFFF) % reduces


# -- Codes that compare as bytes ------------------------------------------------------------------------------------
#
# The code of a part ends with a byte that is less than any that may stand there otherwise: so the shorter of two comes first.
# Bytes below 0x0c are written as two bytes, in the same order; so a code has no TAB and no line end.

_LOW = re.compile(rb"[\x00-\x0b]")
_END = b"\x01"
_COMPLEMENT = bytes(255 - byte for byte in range(256))
_NUMBER = re.compile(rb"[ \t]*(-?)0*([0-9]*)(?:\.([0-9]*))?")
_LENGTH_DIGITS = 10


def _escaped(text: bytes) -> bytes:
    return _LOW.sub(lambda found: b"\x0b" + bytes((0x10 + found[0][0],)), text)


def _code(part: bytes | None, spec: Spec) -> bytes:
    content = b"" if part is None else _number_code(part) if spec.is_numeric else _escaped(part)
    code = (b"0" if part is None else b"1") + content + _END
    return _escaped(code.translate(_COMPLEMENT)) if spec.is_reverse else code


def _number_code(part: bytes) -> bytes:
    """The number that `sort -n` reads: blanks, a sign, digits with a point; 0 if there is no number."""
    found = _NUMBER.match(part)
    sign, whole, fraction = found.groups() if found else (b"", b"", b"")
    fraction = (fraction or b"").rstrip(b"0")
    if not whole and not fraction:
        return b"1"
    code = b"%0*d" % (_LENGTH_DIGITS, len(whole)) + whole + fraction + _END
    return b"0" + code.translate(_COMPLEMENT) if sign else b"2" + code


# -- Properties of a job --------------------------------------------------------------------------------------------


def read(properties: Mapping[str, str]) -> Keys:
    """The keys that these properties define; other properties are ignored. Raises `BadInput`."""
    said = _with_new_names(properties)
    for name, (usual, options) in CLASSES.items():
        if name in said and said[name].rpartition(".")[2] != usual:
            raise BadInput(f"--define {name}={said[name]}: only {usual} is supported, with {options}")
    keys = Keys(
        fields=_number(said, MAP_FIELDS),
        separator=_separator(said, MAP_SEPARATOR),
        reduce_input_separator=_separator(said, REDUCE_INPUT_SEPARATOR),
        reduce_fields=_number(said, REDUCE_FIELDS),
        reduce_separator=_separator(said, REDUCE_SEPARATOR),
        key_separator=_separator(said, KEY_SEPARATOR),
        partition=_specs(said, PARTITION),
        compare=_specs(said, COMPARE),
    )
    if any(spec.is_numeric or spec.is_reverse for spec in keys.partition):
        raise BadInput(
            f"--define {PARTITION}: it says which fields, not how they are compared; leave out n and r"
        )
    return keys


def of_keys(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties that `read` reads, by their new names. Raises `BadInput`."""
    return {name: value for name, value in _with_new_names(properties).items() if name in NAMES}


def _with_new_names(properties: Mapping[str, str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for name, value in properties.items():
        if name == FIELDS_FOR_PARTITION:
            name, value = PARTITION, f"-k1,{_number(properties, name)}"
        name = OLD_NAMES.get(name, name)
        if said.setdefault(name, value) != value:
            raise BadInput(f"--define {name} is given twice, by its old and its new name; give one of them")
    return said


def _number(said: Mapping[str, str], name: str) -> int:
    text = said.get(name, "1")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_FIELDS:
        raise BadInput(f"--define {name}={text} is not a number of fields; give 1 to {MAX_FIELDS}")
    return int(text)


def _separator(said: Mapping[str, str], name: str) -> bytes:
    text = said.get(name, "\t")
    if not text or "\n" in text:
        raise BadInput(f"--define {name}: a separator has at least one character, and no line end")
    return os.fsencode(text)


_POSITION = r"(\d{1,9})(?:\.(\d{1,9}))?([nr]*)"
_KEY = re.compile(rf"{_POSITION}(?:,{_POSITION})?")


def _specs(said: Mapping[str, str], name: str) -> tuple[Spec, ...]:
    """Options of `sort`: `-k2,2nr`, `-k1.3,2.1`, `-n`, `-r`."""
    words = re.sub(r"-k\s+", "-k", said.get(name, "")).split()
    flags = "".join(word[1:] for word in words if re.fullmatch("-[nr]+", word))
    keys = [word for word in words if not re.fullmatch("-[nr]+", word)]
    found = [_spec(word, name) for word in keys]
    if not keys and flags:
        found = [Spec()]
    return tuple(
        spec
        if spec.is_numeric or spec.is_reverse
        else spec._replace(is_numeric="n" in flags, is_reverse="r" in flags)
        for spec in found
    )


def _spec(word: str, name: str) -> Spec:
    found = _KEY.fullmatch(word.removeprefix("-k")) if word.startswith("-k") else None
    if found is None:
        raise BadInput(
            f"--define {name}: {word!r} is not an option; known are -kFIELD[.CHAR][,FIELD[.CHAR]][nr], -n and -r"
        )
    field, char, flags, last_field, last_char, last_flags = found.groups()
    spec = Spec(
        int(field),
        int(char or 1),
        int(last_field or 0),
        int(last_char or 0),
        "n" in flags + (last_flags or ""),
        "r" in flags + (last_flags or ""),
    )
    if not spec.field or not spec.char or last_field == "0":
        raise BadInput(f"--define {name}: {word!r}: fields and characters are counted from 1 on")
    return spec
