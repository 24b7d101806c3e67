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


def own_name(master: str) -> str:
    """The name by which the master knows our key; empty where peers have no keys. Raises `OfferdError` if our key is not an
    operator's.
    """
    keys = resolve(master).keys
    if keys is None:
        return ""
    public = public_of(keys.secret)
    with OperatorClient(master) as client:
        for key in client.known_keys():
            if key.key == public:
                return key.name
    raise OfferdError("the master does not list our own key")
