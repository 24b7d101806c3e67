"""CURVE keys: their files, and the keys that a process uses.

`offerd keys new NAME` makes a pair of keys: `NAME.key` holds the secret one (mode 0600) and `NAME.pub` the public one, each 40
characters of Z85 in one line of TOML. A peer finds its own key with `OFFERD_KEY` and the masters' public key with
`OFFERD_MASTER_KEY`, or both in the store of credentials (`offerd.masters.clusters`). All masters of a cluster share one
pair.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import zmq

from offerd.credentials.trusted_files import read_trusted, replace_file
from offerd.errors import BadInput
from offerd.values.key_names import is_public_key, name_fault

if TYPE_CHECKING:
    from pathlib import Path

KEY_VARIABLE = "OFFERD_KEY"
MASTER_KEY_VARIABLE = "OFFERD_MASTER_KEY"


class Keys(NamedTuple):
    """The keys of a connection: our own secret key, and the masters' public key. Both in Z85."""

    secret: str
    master: str


def public_of(secret: str) -> str:
    """The public key of a secret key."""
    return zmq.curve_public(secret.encode()).decode()


def new_secret() -> str:
    """A new secret key."""
    return zmq.curve_keypair()[1].decode()


def new_key(name: str, directory: Path) -> tuple[Path, Path]:
    """Make a pair of keys; returns the files of the secret and of the public one. Raises `BadInput` if the name is invalid,
    or a file exists already or cannot be written.
    """
    if fault := name_fault(name):
        raise BadInput(fault)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    secret_file, public_file = directory / f"{name}.key", directory / f"{name}.pub"
    _write(secret_file, _secret_text(name, secret), 0o600)
    _write(public_file, f'# public key of {name}\npublic = "{public}"\n', 0o644)
    return secret_file, public_file


def write_secret(path: str | os.PathLike[str], name: str, secret: str) -> None:
    """Write a key file, replacing an old one as a whole. Raises `OSError`."""
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
    """The secret key in a key file. Raises `BadInput` if there is none, or others may read or replace the file."""
    try:
        text = read_trusted(path, "the key file", secret=True)
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}") from None
    return _entry(path, text, "secret")


def read_public(text: str) -> str:
    """A public key, given as text or as the path of a `.pub` file. Raises `BadInput`."""
    # A path may also have 40 characters, all of them Z85's.
    if is_public_key(text) and not os.path.exists(text):
        return text
    try:
        content = read_trusted(text, "the key file")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"{text!r} is neither a public key (40 characters) nor a file that can be read: {why}"
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
    """One line for people who have no key to the cluster at `HOST:PORT` or `zk://...`; `name`: the cluster's in the store."""
    return (
        f"no key for the cluster {name}{' ' if name else ''}at {address} here: {why}ask its operator for one and add it with "
        f"`offerd cluster add {name or 'NAME'} {address} --master-key KEY --key FILE`"
    )
