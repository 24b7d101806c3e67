"""Asks a gateway (`offerd web`) over HTTP: for commands that look into its history.

`OFFERD_WEB` names it (http://HOST:PORT), with a web token in `OFFERD_WEB_TOKEN`. Without these it is the gateway of this host:
that of the cluster that `offerd local` runs, or the one with the default state directory. Whoever may write in that directory
needs no token.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from offerd.errors import BadInput, NoKey, OfferdError
from offerd.masters.clusters import read_stores, resolve
from offerd_cli.services import state_directory
from offerd_web.services.web_tokens import ADDRESS_FILE, THIS_HOST, WebTokens

WEB_VARIABLE, TOKEN_VARIABLE = "OFFERD_WEB", "OFFERD_WEB_TOKEN"
TIMEOUT_S = 20.0
TOKEN_S = 120.0
"""How long the token is good that a command makes for itself."""
MAX_BYTES = 64 << 20


class Gateway(NamedTuple):
    """Where a gateway is, and the token for it."""

    address: str
    """`HOST:PORT`."""
    token: str
    is_secure: bool = False


def find_gateway(master: str) -> Gateway:
    """The gateway of this cluster. Raises `BadInput` if none is known here."""
    if url := os.environ.get(WEB_VARIABLE, ""):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"{WEB_VARIABLE}={url} is no address; write http://HOST:PORT")
        return Gateway(parts.netloc, os.environ.get(TOKEN_VARIABLE, ""), parts.scheme == "https")
    for directory in _state_directories(master):
        try:
            address = (directory / ADDRESS_FILE).read_text().strip()
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return Gateway(address, WebTokens(directory).make(THIS_HOST, time.time(), TOKEN_S))
    raise BadInput(
        f"no gateway is known here: `offerd web` runs one; for one elsewhere set {WEB_VARIABLE}=http://HOST:PORT and "
        f"{TOKEN_VARIABLE}"
    )


def _state_directories(master: str) -> Iterator[Path]:
    try:
        name = resolve(master or None).name
    except NoKey:
        name = ""  # the history of this host's gateway can be read without a key to its master
    for _, clusters in read_stores():
        cluster = clusters.known.get(name)
        if cluster is not None and cluster.base:
            yield Path(cluster.base) / "web"
    yield state_directory() / "web"


def ask(gateway: Gateway, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object at this path. Raises `OfferdError` with one line."""
    kind = http.client.HTTPSConnection if gateway.is_secure else http.client.HTTPConnection
    connection = kind(gateway.address, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {gateway.token}"} if gateway.token else {}
    try:
        connection.request("GET", f"{path}?{urlencode(query, doseq=True)}", headers=headers)
        answer = connection.getresponse()
        content = answer.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise OfferdError(f"the gateway at {gateway.address} sends too much; ask for less time")
        document = json.loads(content)
    except (OSError, http.client.HTTPException) as error:
        raise OfferdError(f"the gateway at {gateway.address} does not answer: {error}") from None
    except (ValueError, RecursionError):
        raise OfferdError(f"what answers at {gateway.address} is no gateway of offerd") from None
    finally:
        connection.close()
    if not isinstance(document, dict):
        raise OfferdError(f"what answers at {gateway.address} is no gateway of offerd")
    if answer.status != http.client.OK:
        raise OfferdError(f"the gateway refuses: {document.get('detail', answer.status)}")
    return document
