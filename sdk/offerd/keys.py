"""CURVE keys: their files, and which ones a process speaks with.

A pair of keys is made by `offerd keys new NAME`: `NAME.key` holds the secret one (mode 0600) and `NAME.pub` the public one,
40 characters of Z85, each as one line of TOML. Peers say where theirs is with `OFFERD_KEY`, and the master's public key with
`OFFERD_MASTER_KEY`. All masters of a cluster share one pair.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import zmq

from offerd.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

KEY_VARIABLE = "OFFERD_KEY"
MASTER_KEY_VARIABLE = "OFFERD_MASTER_KEY"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_Z85_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


class Keys(NamedTuple):
    """What a peer speaks with: its own secret key, and the public key by which it knows the master. Both as Z85."""

    secret: str
    master: str


def name_fault(name: str) -> str:
    """Why this cannot be the name of a key's owner; empty if it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"{name[:64]!r} is no name; write 1 to 40 letters, digits and `_.-`, a letter or digit first"


def is_public_key(text: str) -> bool:
    """Whether this is a key as it is written: 40 characters of Z85."""
    return _Z85_KEY.fullmatch(text) is not None


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one."""
    return zmq.curve_public(secret.encode()).decode()


def new_key(name: str, directory: Path) -> tuple[Path, Path]:
    """Make a pair of keys; returns the files of the secret and of the public one. Raises `BadInput` if the name is none, a
    file is there already or cannot be written.
    """
    if fault := name_fault(name):
        raise BadInput(fault)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    secret_file, public_file = directory / f"{name}.key", directory / f"{name}.pub"
    _write(secret_file, f'# secret key of {name}: for nobody else\nsecret = "{secret}"\n', 0o600)
    _write(public_file, f'# public key of {name}\npublic = "{public}"\n', 0o644)
    return secret_file, public_file


def _write(path: Path, text: str, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(text)
    except OSError as error:
        raise BadInput(f"cannot make the key file {path}: {error.strerror}") from None


def read_secret(path: str | os.PathLike[str]) -> str:
    """The secret key of a key file. Raises `BadInput` if there is none, or others may read the file."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(4096)
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}") from None
    if mode & 0o077:
        raise BadInput(f"others may read the key file {path} (mode {mode:04o}): chmod 600 {path}")
    return _entry(path, text, "secret")


def read_public(text: str) -> str:
    """A public key: written out, or that of a `.pub` file. Raises `BadInput`."""
    if is_public_key(text):
        return text
    try:
        with open(text, "rb") as file:
            content = file.read(4096)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"{text!r} is no public key (40 characters) and no file that can be read: {why}"
        ) from None
    return _entry(text, content, "public")


def _entry(path: str | os.PathLike[str], text: bytes, name: str) -> str:
    import tomllib  # most processes have no key

    try:
        key = tomllib.loads(text.decode()).get(name)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        key = None
    if not isinstance(key, str) or not is_public_key(key):
        raise BadInput(f"{path} holds no {name} key; `offerd keys new NAME` makes one")
    return key


def keys_of_environment() -> Keys | None:
    """What `OFFERD_KEY` and `OFFERD_MASTER_KEY` name; None if neither is set. Raises `BadInput` if one is missing or bad."""
    key, master = os.environ.get(KEY_VARIABLE, ""), os.environ.get(MASTER_KEY_VARIABLE, "")
    if not key and not master:
        return None
    if not key or not master:
        raise BadInput(
            f"a key needs the master's beside it: set both {KEY_VARIABLE} (file of our secret key) and "
            f"{MASTER_KEY_VARIABLE} (the master's public key), or neither"
        )
    return Keys(read_secret(key), read_public(master))
