"""What the commands for the gateway need: whether it can run here, and whose key is ours."""

from __future__ import annotations

from importlib.util import find_spec

from offerd.credentials.keys import public_of
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import resolve
from offerd.operator import OperatorClient

INSTALL = "pip install 'offerd[web]'"


def is_installed() -> bool:
    """Whether the libraries that only the gateway needs are here."""
    return all(find_spec(name) is not None for name in ("litestar", "uvicorn"))


def check_installed() -> None:
    """Raises `BadInput` if they are not."""
    if not is_installed():
        raise BadInput(f"the gateway's libraries are not installed here; {INSTALL} brings them along")


def owner_of_token(master: str, name: str) -> str:
    """The owner of a key with this name; without one, that of our own key. Empty where peers have no keys. Raises `BadInput` if
    the master knows no such key, and `OfferdError` if our key is not an operator's.
    """
    keys = resolve(master).keys
    if keys is None:
        return ""
    public = public_of(keys.secret)
    with OperatorClient(master) as client:
        for key in client.known_keys():
            if name == key.name or (not name and key.key == public):
                return key.name
    if name:
        raise BadInput(f"the master knows no key of {name}; `offerd keys list` lists those that it knows")
    raise OfferdError("the master does not list our own key")
