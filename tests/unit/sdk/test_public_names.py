"""`import offerd` gives everything a framework author needs, and loads nothing that a daemon does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import offerd


@pytest.mark.parametrize("name", sorted(offerd.__all__))
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(offerd, name) is not None
    assert name in dir(offerd)


def test_the_table_of_homes_is_the_list_of_names() -> None:
    assert set(offerd._HOME) | {"__version__"} == set(offerd.__all__)


def test_what_is_not_in_a_subpackage_holds_public_names() -> None:
    folder = Path(offerd.__file__).parent
    # A call of `map` with chunks names `chunks`, so its place is a part of the protocol of client and worker. `messages` is
    # the protocol, and has the public descriptions and states under its own name, too.
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "chunks", "messages"}
    assert modules == set(offerd._HOME.values())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Schedular"):
        offerd.__getattr__("Schedular")


def test_a_daemon_that_wants_messages_loads_no_driver() -> None:
    script = "import sys, offerd.messages; print(*[m for m in sys.modules if m.startswith('offerd.') or m == 'zmq'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert set(done.stdout.split()) <= {
        "offerd.descriptions", "offerd.errors", "offerd.fields", "offerd.fields.field_types", "offerd.fields.structs",
        "offerd.files_access", "offerd.files_door", "offerd.ids", "offerd.messages", "offerd.resources",
        "offerd.states", "offerd.values", "offerd.values.bounds", "offerd.values.ranges", "offerd.values.screen_text",
    }  # fmt: skip
