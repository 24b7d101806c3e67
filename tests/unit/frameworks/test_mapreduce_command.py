"""`-D` of `offerd mapreduce`: what Hadoop's properties mean here, and which are refused."""

from __future__ import annotations

import pytest

from offerd import BadInput
from offerd_cli.commands.mapreduce import check_properties, number_of_reduces


@pytest.mark.parametrize(
    "name",
    [
        "stream.num.map.output.key.fields",
        "stream.map.output.field.separator",
        "mapreduce.partition.keypartitioner.options",
        "mapreduce.job.output.key.comparator.class",
    ],
)
def test_other_keys_than_up_to_the_first_tab_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="keys end at the first TAB"):
        check_properties({name: "2"})


def test_what_is_so_here_may_be_said() -> None:
    check_properties(
        {"stream.num.map.output.key.fields": "1", "stream.map.output.field.separator": "\t", "a.b": "x"}
    )


def test_the_number_of_reduces_may_be_a_property() -> None:
    assert number_of_reduces(None, {}) == 1
    assert number_of_reduces(3, {"a.b": "4"}) == 3
    assert number_of_reduces(None, {"mapreduce.job.reduces": "4"}) == 4
    assert number_of_reduces(4, {"mapred.reduce.tasks": "4"}) == 4


@pytest.mark.parametrize("text", ["", "-1", "many", "10001"])
def test_a_property_that_is_no_number_of_reduces_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is no number from 0"):
        number_of_reduces(None, {"mapreduce.job.reduces": text})


def test_two_numbers_of_reduces_are_refused() -> None:
    with pytest.raises(BadInput, match="do not agree"):
        number_of_reduces(3, {"mapreduce.job.reduces": "4"})
