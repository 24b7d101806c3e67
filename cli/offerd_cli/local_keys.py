"""The keys of a cluster on this host, valid while it runs: the masters', each slave's, and one for the account that started it.

They are in a directory of the cluster that no other account can enter.
"""

from __future__ import annotations

import os
from pathlib import Path

from offerd.credentials.keys import Keys, new_key, read_public, read_secret
from offerd.drivers.account import account_name
from offerd.values.key_names import name_fault

KEYS = "keys"


class LocalKeys:
    """Keys made below `base` for a number of slaves."""

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
        """Make the key of this principal; returns its table for the masters' file."""
        _, public = new_key(name, self._directory)
        return f'[{name}]\nkey = "{read_public(str(public))}"\n{rights}\n'

    @property
    def account(self) -> str:
        """The name of the account that started the cluster, as its master knows it."""
        return self._account

    @property
    def key_file(self) -> Path:
        """The secret key of the account that started the cluster."""
        return self._directory / f"{self._account}.key"

    @property
    def keys(self) -> Keys:
        """That key with the masters' public key, for clients."""
        return Keys(read_secret(self.key_file), self.master_key)

    def master_words(self) -> list[str]:
        """Options for a master's command line."""
        return [
            *("--key", str(self._directory / "master.key"), "--authorized", str(self._authorized)),
            *("--state-dir", str(self._directory)),  # keys that join are deleted with the cluster
        ]

    def slave_words(self, number: int) -> list[str]:
        """Options for the command line of slave `number`, from 1."""
        key = self._directory / f"{_slave_name(number)}.key"
        return ["--key", str(key), "--master-key", self.master_key]


def _slave_name(number: int) -> str:
    return f"slave-{number}"


def _principal_name(taken: set[str]) -> str:
    account = account_name()
    return f"uid-{os.geteuid()}" if name_fault(account) or account in taken else account


def _rights() -> str:
    """All rights on this cluster, with tasks as our own user only; root may run tasks as any user."""
    lines = ["operator = true", "slave = true", "every_role = true", f'users = ["{account_name()}"]']
    if os.geteuid() == 0:
        lines.append("every_user = true")
    return "\n".join(lines)
