"""`import offerd` gives everything a framework author needs, and loads nothing that a daemon does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import offerd


@pytest.mark.parametrize("name", sorted(offerd.__all__))
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(offerd, name) is not None
    assert name in dir(offerd)


def test_the_table_of_homes_is_the_list_of_names() -> None:
    assert set(offerd._HOME) | {"__version__"} == set(offerd.__all__)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Schedular"):
        offerd.__getattr__("Schedular")


def test_a_daemon_that_wants_messages_loads_no_driver() -> None:
    script = "import sys, offerd.messages; print(*[m for m in sys.modules if m.startswith('offerd.') or m == 'zmq'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert set(done.stdout.split()) <= {
        "offerd.bounds", "offerd.errors", "offerd.field_types", "offerd.files_access", "offerd.files_door", "offerd.ids",
        "offerd.messages", "offerd.ranges", "offerd.resources", "offerd.screen_text", "offerd.states", "offerd.structs",
    }  # fmt: skip
