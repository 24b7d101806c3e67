"""The record of the protocol: every message's format when it was first recorded.

    python tests/helpers/wire.py

adds new messages and fields to `tests/unit/sdk/wire.json`, and refuses other changes: older and newer peers must understand
each other.
"""

from __future__ import annotations

import enum
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from offerd import messages, operator_messages
from offerd.fields.structs import Description
from offerd.files_access import FilesAccess, FilesSecret
from offerd.messages import Message, Value
from offerd.protocol import change_messages, files_messages, recording_messages
from offerd.resources import Resources

RECORD = Path(__file__).resolve().parents[1] / "unit" / "sdk" / "wire.json"


def structs() -> dict[str, type[msgspec.Struct]]:
    """Every message and value of the protocol, by name."""
    found: dict[str, type[msgspec.Struct]] = {
        "Resources": Resources,
        "FilesAccess": FilesAccess,
        "FilesSecret": FilesSecret,
    }
    for module in (messages, operator_messages, files_messages, recording_messages, change_messages):
        for name, member in vars(module).items():
            if (
                inspect.isclass(member)
                and issubclass(member, Message | Value)
                and member not in (Message, Value, Description)
            ):
                found[name] = member
    return dict(sorted(found.items()))


def sample(kind: Any, name: str = "") -> Any:
    """A value of this type: a struct with its required fields only; for a string, the field's name."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        required = [field.name for field in msgspec.structs.fields(kind) if field.required]
        return kind(**{field: sample(hints[field], field) for field in required})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return [sample(arguments[0], name)]
    if origin is dict:
        return {sample(arguments[0], name): sample(arguments[1], name)}
    if origin is tuple:
        return tuple(sample(argument, name) for argument in arguments)
    if origin in (Union, types.UnionType):
        return sample(arguments[0], name)
    kind = getattr(kind, "__supertype__", kind)
    kind = getattr(kind, "__origin__", kind)  # of a generic type
    return {str: name, int: 7, float: 1.5, bool: True, bytes: name.encode()}[kind]


def describe(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The record of a struct: field names in order, how many are required, and the bytes of a sample."""
    fields = msgspec.structs.fields(kind)
    return {
        "fields": [field.name for field in fields],
        "required": sum(field.required for field in fields),
        "golden": msgspec.msgpack.encode(sample(kind)).hex(),
    }


def recorded() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def breaks(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What a peer with `old` would not understand of `new`; empty if it understands everything."""
    if new["fields"][: len(old["fields"])] != old["fields"]:
        return "fields were moved, renamed or removed: add new ones at the end"
    if new["required"] != old["required"]:
        return "a field became required, or ceased to be: give new fields a default"
    was, now = (msgspec.msgpack.decode(bytes.fromhex(entry["golden"])) for entry in (old, new))
    if not _extends(was, now):
        return f"the bytes changed from {was} to {now}"
    return ""


def _extends(was: Any, now: Any) -> bool:
    """Whether only fields at the ends of structs were added."""
    if isinstance(was, list) and isinstance(now, list):
        return len(was) <= len(now) and all(map(_extends, was, now))
    return bool(was == now)


def main() -> int:
    record = recorded() if RECORD.exists() else {}
    current = {name: describe(kind) for name, kind in structs().items()}
    broken = [f"{name}: was removed" for name in record.keys() - current.keys()]
    broken += [
        f"{name}: {why}"
        for name, old in record.items()
        if name in current and (why := breaks(old, current[name]))
    ]
    if broken:
        print("\n".join(broken), file=sys.stderr)
        return 1
    lines = [f'"{name}": {json.dumps(entry)}' for name, entry in current.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
