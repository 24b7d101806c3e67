"""The keys of a cluster on this host, good for as long as it runs: the masters', each slave's, and one for who started it.

They lie in a directory of the cluster's that nobody else can enter.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from offerd.credentials.keys import Keys, name_fault, new_key, read_public, read_secret

KEYS = "keys"


class LocalKeys:
    """Made beneath `base`, for so many slaves."""

    def __init__(self, base: Path, slaves: int) -> None:
        self._directory = base / KEYS
        self._directory.mkdir(mode=0o700)
        self._authorized = self._directory / "authorized.toml"
        new_key("master", self._directory)
        self.master_key = read_public(str(self._directory / "master.pub"))
        tables = [self._table(_slave_name(number), "slave = true") for number in range(1, slaves + 1)]
        self._account = _principal_name({"master", *map(_slave_name, range(1, slaves + 1))})
        tables.append(self._table(self._account, _rights()))
        self._authorized.write_text("\n".join(tables))

    def _table(self, name: str, rights: str) -> str:
        """Make the key of this principal; returns what the masters are to know of it."""
        _, public = new_key(name, self._directory)
        return f'[{name}]\nkey = "{read_public(str(public))}"\n{rights}\n'

    @property
    def key_file(self) -> Path:
        """Of the secret key of who started the cluster."""
        return self._directory / f"{self._account}.key"

    @property
    def keys(self) -> Keys:
        """The same with the masters' public one, to speak to them."""
        return Keys(read_secret(self.key_file), self.master_key)

    def master_words(self) -> list[str]:
        """For the command line of a master."""
        return [
            *("--key", str(self._directory / "master.key"), "--authorized", str(self._authorized)),
            *("--state-dir", str(self._directory)),  # keys that join go with the cluster
        ]

    def slave_words(self, number: int) -> list[str]:
        """For that of slave `number`, from 1."""
        key = self._directory / f"{_slave_name(number)}.key"
        return ["--key", str(key), "--master-key", self.master_key]


def _slave_name(number: int) -> str:
    return f"slave-{number}"


def account_name() -> str:
    """Of the account that we are; empty if the host knows no name for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _principal_name(taken: set[str]) -> str:
    account = account_name()
    return f"uid-{os.geteuid()}" if name_fault(account) or account in taken else account


def _rights() -> str:
    """Everything on this cluster, as nobody but ourselves; root may run tasks as whom it likes."""
    lines = ["operator = true", "slave = true", "every_role = true", f'users = ["{account_name()}"]']
    if os.geteuid() == 0:
        lines.append("every_user = true")
    return "\n".join(lines)
