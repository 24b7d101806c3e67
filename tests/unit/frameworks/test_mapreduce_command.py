"""`-D` of `offerd mapreduce`: what Hadoop's properties mean here, and which are refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from offerd import BadInput
from offerd_cli.commands.mapreduce import (
    check_properties,
    command,
    fails_by_status,
    number_of_reduces,
)
from offerd_cli.mapreducing import default_limits
from offerd_frameworks.mapreduce import Job

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("stream.recordreader.class", "StreamXmlRecordReader", "does not support this property"),
        ("stream.map.output", "typedbytes", "does not support this property"),
        ("mapreduce.job.output.group.comparator.class", "x", "does not support this property"),
        ("mapreduce.partition.keypartitioner.other", "x", "does not support this property"),
        ("mapreduce.output.fileoutputformat.compress", "true", "does not support this property"),
        ("mapred.output.compression.codec", "x.GzipCodec", "does not support this property"),
        ("textinputformat.record.delimiter", ";", "does not support this property"),
        ("mapreduce.output.textoutputformat.separator", ",", "does not support this property"),
        ("stream.non.zero.exit.is.failure", "maybe", "give true or false"),
        ("stream.num.map.output.key.fields", "no", "is not a number of fields"),
        ("mapred.partitioner.class", "org.mine.Partitioner", "only KeyFieldBasedPartitioner is supported"),
        ("a b", "x", "is not a property"),
    ],
)
def test_an_unsupported_property_is_refused_with_its_own_reason(name: str, value: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        check_properties({name: value})
    assert name.startswith("mapred.") or name in str(caught.value)


def test_a_property_that_holds_here_anyway_is_accepted() -> None:
    check_properties(
        {
            "stream.num.map.output.key.fields": "4",
            "stream.map.output.field.separator": ".",
            "stream.map.input.field.separator": "\t",
            "mapreduce.output.fileoutputformat.compress": "false",
            "mapreduce.output.textoutputformat.separator": "\t",
            "stream.non.zero.exit.is.failure": "false",
            "mapreduce.job.partitioner.class": "org.apache.hadoop.mapred.lib.KeyFieldBasedPartitioner",
            "mapreduce.partition.keypartitioner.options": "-k1,2",
            "mapreduce.partition.keycomparator.options": "-k2,2nr",
            "a.b": "x",
        }
    )
    assert fails_by_status({})
    assert not fails_by_status({"stream.non.zero.exit.is.failure": "false"})


def test_the_number_of_reduces_may_be_a_property() -> None:
    assert number_of_reduces(None, {}) == 1
    assert number_of_reduces(3, {"a.b": "4"}) == 3
    assert number_of_reduces(None, {"mapreduce.job.reduces": "4"}) == 4
    assert number_of_reduces(4, {"mapred.reduce.tasks": "4"}) == 4


@pytest.mark.parametrize("text", ["", "-1", "many", "10001"])
def test_an_invalid_number_of_reduces_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a number from 0"):
        number_of_reduces(None, {"mapreduce.job.reduces": text})


def test_two_numbers_of_reduces_are_refused() -> None:
    with pytest.raises(BadInput, match="do not agree"):
        number_of_reduces(3, {"mapreduce.job.reduces": "4"})


def mappers(text: str) -> list[str]:
    """The mapper commands in a text."""
    found = re.findall(r"--mapper '(tr [^']*)'", text)
    assert found
    return found


@pytest.mark.parametrize("where", ["README.md", "docs/mapreduce.md", "--help"])
def test_the_word_count_that_is_shown_gives_the_same_however_its_input_is_cut(where: str) -> None:
    text = command.help or "" if where == "--help" else (ROOT / where).read_text()
    lines = ["  indented  twice\n", "\n", "\n", "two words\n", " \t\n", "twice", "\n"]
    for mapper in mappers(text):
        for at in range(len(lines)):
            parts = ["".join(lines[:at]), "".join(lines[at:])]
            words = [word for part in parts for word in run(mapper, part)]
            assert sorted(words) == ["indented", "twice", "twice", "two", "words"]


def run(mapper: str, content: str) -> list[str]:
    done = subprocess.run(mapper, shell=True, input=content, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_default_limits_are_reported() -> None:
    reported = default_limits(Job(("in",), "out", "cat", "cat"))
    assert "a map may take 60 s, a reduce 20 s" in reported
    assert "4 times the limit" in reported
    assert "reduce" not in default_limits(Job(("in",), "out", "cat", reduces=0))
