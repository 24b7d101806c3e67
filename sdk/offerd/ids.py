"""Identifiers: plain strings on the wire, distinct types for the type checker.

The framework names its tasks and executors, the master names frameworks, slaves and offers, and the slave names containers
(one container = one run of one executor).
"""

from __future__ import annotations

import re
from typing import NewType

from offerd.values.bounds import Id

FrameworkID = NewType("FrameworkID", Id)
"""Of a framework. The master makes it, or the framework's first scheduler chooses it."""
SlaveID = NewType("SlaveID", Id)
"""Of a slave. The master makes it at the slave's first registration, and the slave keeps it."""
OfferID = NewType("OfferID", Id)
"""Of an offer. The master makes it."""
TaskID = NewType("TaskID", Id)
"""Of a task. Its framework chooses it; another framework may use the same."""
ExecutorID = NewType("ExecutorID", Id)
"""Of an executor. Its framework chooses it, and there is one executor of that id on each slave."""
ContainerID = NewType("ContainerID", Id)
"""Of a container: one run of one executor. The slave makes it, and names the sandbox by it."""

PeerID = NewType("PeerID", bytes)
"""The routing id of a ROUTER's peer. It says where to send, but does not identify anybody: peers choose it themselves."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@=+-]{0,127}\Z")


def is_valid_id(text: str) -> bool:
    """Whether an id may name a directory and stand in a URL: 1 to 128 letters, digits and `_.:@=+-`, no leading dot."""
    return _ID.match(text) is not None


def owner_of(some_id: str) -> str:
    """The owner's name, at the end of a slave or framework id; empty if the id was given without keys."""
    return some_id.rpartition("@")[2] if "@" in some_id else ""
