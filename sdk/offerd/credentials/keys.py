"""CURVE keys: their files, and which ones a process speaks with.

A pair of keys is made by `offerd keys new NAME`: `NAME.key` holds the secret one (mode 0600) and `NAME.pub` the public one,
40 characters of Z85, each as one line of TOML. Peers say where theirs is with `OFFERD_KEY`, and the master's public key with
`OFFERD_MASTER_KEY`, or they find both in the store of credentials (`offerd.credentials.clusters`). All masters of a
cluster share one pair.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import zmq

from offerd.credentials.trusted_files import read_trusted, replace_file
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


def new_secret() -> str:
    """A secret key that nobody has yet."""
    return zmq.curve_keypair()[1].decode()


def new_key(name: str, directory: Path) -> tuple[Path, Path]:
    """Make a pair of keys; returns the files of the secret and of the public one. Raises `BadInput` if the name is none, a
    file is there already or cannot be written.
    """
    if fault := name_fault(name):
        raise BadInput(fault)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    secret_file, public_file = directory / f"{name}.key", directory / f"{name}.pub"
    _write(secret_file, _secret_text(name, secret), 0o600)
    _write(public_file, f'# public key of {name}\npublic = "{public}"\n', 0o644)
    return secret_file, public_file


def write_secret(path: str | os.PathLike[str], name: str, secret: str) -> None:
    """Write a key file anew, whole. Raises `OSError`."""
    replace_file(path, _secret_text(name, secret), 0o600)


def _secret_text(name: str, secret: str) -> str:
    return f'# secret key of {name}: for nobody else\nsecret = "{secret}"\n'


def _write(path: Path, text: str, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(text)
    except OSError as error:
        raise BadInput(f"cannot make the key file {path}: {error.strerror}") from None


def read_secret(path: str | os.PathLike[str]) -> str:
    """The secret key of a key file. Raises `BadInput` if there is none, or others may read or replace the file."""
    try:
        text = read_trusted(path, "the key file", secret=True)
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}") from None
    return _entry(path, text, "secret")


def read_public(text: str) -> str:
    """A public key: written out, or that of a `.pub` file. Raises `BadInput`."""
    # A path may have 40 characters, too, and all of Z85's.
    if is_public_key(text) and not os.path.exists(text):
        return text
    try:
        content = read_trusted(text, "the key file")
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


def no_key(address: str, name: str = "", why: str = "") -> str:
    """The one line for people who have none for the cluster at `HOST:PORT` or `zk://...`; `name`: that of the store."""
    return (
        f"no key for the cluster {name}{' ' if name else ''}at {address} here: {why}ask its operator for one and say it with "
        f"`offerd cluster add {name or 'NAME'} {address} --master-key KEY --key FILE`"
    )
