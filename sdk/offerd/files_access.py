"""Who may read and write the files that slaves serve: the access that the master hands out, and the tokens made of it.

Each slave has a *files secret* and sends it to the master only. From it the master derives a key for each owner of frameworks
(the name after `@` in their ids; empty where peers have no keys) and for each operator, and sends it over the owner's own
connection as a `FilesAccess`. Its holder makes tokens, each for one scope and either for reading or for writing, and sends
one with every request:

    Authorization: Offerd GENERATION r|w owner:NAME|operator:NAME MAC

    key = HMAC-SHA256(secret of that generation, "owner:NAME")
    MAC = first 16 bytes of HMAC-SHA256(key, "r SCOPE"), in base64

A scope is one sandbox, one data set, the list of an owner's sets, the slave's statistics or its metrics (`scope_of`). So a
token that leaks opens nothing else, and nothing on another slave. No clock is involved: a token is good until the slave
replaces the generation of its secret, which it does now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from offerd.files_door import FilesPass

SCHEME = "Offerd"
READ, WRITE = "r", "w"
SECRET_BYTES = 32
MAC_BYTES = 16
OWNER, OPERATOR = "owner:", "operator:"
MAX_HEADER = 512
"""Largest `Authorization` header; ours are far shorter."""

Text = Annotated[str, Meta(max_length=300)]
Generation = Annotated[int, Meta(ge=0, le=1 << 53)]
Secret = Annotated[bytes, Meta(max_length=SECRET_BYTES)]


class FilesAccess(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Access to files on one slave: reads the sandboxes of an owner's frameworks, and reads and writes the owner's data sets.
    An operator's reads everything there and removes any set. Never give it to a task: give it a `FilesPass` (`narrowed`).
    """

    address: Text = ""
    """`HOST:PORT` of the slave's file server; empty: no access."""
    fingerprint: Text = ""
    """SHA-256 of the server's certificate, in hexadecimal; empty for a server on loopback, which has none."""
    name: Text = ""
    """The owner's or operator's name; empty where peers have no keys."""
    generation: Generation = 0
    """The generation of the slave's secret that `key` is derived from."""
    key: Secret = b""
    """What tokens are made with; empty: no access."""
    operator: bool = False
    """It is an operator's."""

    @property
    def identity(self) -> str:
        """`owner:NAME` or `operator:NAME`, as a token names it."""
        return f"{OPERATOR if self.operator else OWNER}{self.name}"

    def authorization(self, method: str, path: str) -> str:
        """The `Authorization` header of a request for this path (not quoted); empty without access."""
        if not self.key:
            return ""
        access = access_of(method)
        mac = _mac(self.key, access, scope_of(split_path(path)))
        return f"{SCHEME} {self.generation} {access} {self.identity} {mac}"

    def data_path(self, name: str = "", file: str = "", *, owner: str | None = None) -> str:
        """The server's path of a data set, of a file in it, or of all sets: this owner's, or another `owner`'s."""
        return data_path(self.name if owner is None else owner, name, file)

    def narrowed(self, path: str) -> FilesPass:
        """A pass for one sandbox or data set, to give to a task: `path` is `/containers/ID` or what `data_path` returns."""
        return FilesPass(self.address, self.fingerprint, self.authorization("GET", path))


NO_ACCESS = FilesAccess()


class FilesSecret(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a slave sends its master: the secret that access to its files is derived from, and its certificate's fingerprint."""

    secret: Secret
    """What the keys of owners and operators are derived from."""
    generation: Generation
    """Counts the slave's secrets."""
    fingerprint: Text = ""
    """As in `FilesAccess`."""


class Claim(NamedTuple):
    """What an `Authorization` header claims; not yet verified."""

    generation: int
    access: str
    identity: str
    mac: str

    @property
    def name(self) -> str:
        return self.identity.partition(":")[2]

    @property
    def is_operator(self) -> bool:
        return self.identity.startswith(OPERATOR)


def key_of(secret: bytes, identity: str) -> bytes:
    """The key with which this identity makes its tokens."""
    import hmac  # only where it is used: shims carry a FilesAccess, and should not hold OpenSSL in memory

    return hmac.digest(secret, identity.encode(), "sha256")


def access_to(
    secret: bytes, generation: int, address: str, fingerprint: str, name: str, *, operator: bool
) -> FilesAccess:
    """The access that a master hands out."""
    key = key_of(secret, f"{OPERATOR if operator else OWNER}{name}")
    return FilesAccess(address, fingerprint, name, generation, key, operator)


def parse_claim(header: str) -> Claim | None:
    """The claim in an `Authorization` header; None if it is not one of ours."""
    words = header.split(" ") if len(header) <= MAX_HEADER else []
    if len(words) != 5 or words[0] != SCHEME or words[2] not in (READ, WRITE):
        return None
    _, generation, access, identity, mac = words
    if not (generation.isascii() and generation.isdigit() and len(generation) <= 16):
        return None
    if not identity.startswith((OWNER, OPERATOR)) or not mac.isascii():
        return None
    return Claim(int(generation), access, identity, mac)


def is_true(claim: Claim, secret: bytes, scope: str) -> bool:
    """Whether the claim was made with the key; takes as long for a wrong claim as for a true one."""
    import hmac

    return hmac.compare_digest(claim.mac, _mac(key_of(secret, claim.identity), claim.access, scope))


def _mac(key: bytes, access: str, scope: str) -> str:
    import base64
    import hmac

    digest = hmac.digest(key, f"{access} {scope}".encode(errors="surrogateescape"), "sha256")
    return base64.urlsafe_b64encode(digest[:MAC_BYTES]).rstrip(b"=").decode()


def access_of(method: str) -> str:
    """Whether a request of this method reads or writes."""
    return READ if method in ("GET", "HEAD") else WRITE


def split_path(path: str) -> list[str]:
    """The parts of an unquoted path; a slash at the end has no meaning."""
    return path.strip("/").split("/") if path.strip("/") else []


def scope_of(parts: Sequence[str]) -> str:
    """The scope of a token for this path: `containers/ID`, `data/@OWNER/SET`, `data/@OWNER`, `data`, `statistics`, or
    `metrics`.
    """
    return "/".join(parts[: {"containers": 2, "data": 3}.get(parts[0], 1)]) if parts else ""


def owner_directory(name: str) -> str:
    """The directory with an owner's data sets. No set and no other owner can have this name."""
    return f"@{name}"


def data_path(owner: str, name: str = "", file: str = "") -> str:
    """The server's path of an owner's sets, of one set, or of a file in it."""
    return "/".join(part for part in ("/data", owner_directory(owner), name, file) if part)
