"""Keys for tests: those of a master and of the principals of its `--authorized` file."""

from __future__ import annotations

from pathlib import Path

from offerd.credentials.keys import KEY_VARIABLE, MASTER_KEY_VARIABLE, Keys, new_key, read_public, read_secret
from offerd.drivers.account import account_name

TABLES = {
    "ops": "operator = true",
    "host": "slave = true",
    "rack": "slave = true",
    "alice": f'roles = ["science"]\nusers = ["{account_name()}"]',
    "bob": 'roles = ["*"]\nusers = ["nobody"]',
}


class Keyring:
    """Keys of `master`, of the principals in the tables, and of `stranger`, which is not in the file."""

    def __init__(self, directory: Path, tables: dict[str, str] = TABLES) -> None:
        self.directory = directory
        self.authorized = directory / "authorized.toml"
        for name in ("master", "stranger", *tables):
            new_key(name, directory)
        self.authorize(tables)

    def authorize(self, tables: dict[str, str]) -> None:
        """Write the file again."""
        self.authorized.write_text(
            "".join(f'[{name}]\nkey = "{self.public(name)}"\n{table}\n' for name, table in tables.items())
        )

    def file(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    def public(self, name: str) -> str:
        return read_public(str(self.directory / f"{name}.pub"))

    def keys(self, name: str) -> Keys:
        """The keys to connect to the master as this principal."""
        return Keys(read_secret(self.file(name)), self.public("master"))

    def environment(self, name: str) -> dict[str, str]:
        """The same, for a process."""
        return {
            KEY_VARIABLE: self.file(name),
            MASTER_KEY_VARIABLE: str(self.directory / "master.pub"),
        }

    def master_words(self) -> list[str]:
        return ["--key", self.file("master"), "--authorized", str(self.authorized)]
