"""A connection to a slave's file server: plain on loopback, TLS elsewhere, and only ever to that slave.

No authority signs the server's certificate; the master has sent its SHA-256. Nothing is sent before the certificate has been
compared with it. So a server that is not that slave never sees a request of ours, wherever an address leads.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import quote

from offerd.addresses import is_loopback
from offerd.errors import OfferdError
from offerd.files_door import FilesDoor

CONNECT_TIMEOUT_S = 3.0
"""A host that is reachable answers in milliseconds."""


class WrongServer(OfferdError, ConnectionError):
    """The server is not the slave that was meant, misbehaves, or cannot be verified, as the master has sent no fingerprint."""


class FilesConnection(http.client.HTTPConnection):
    """An HTTP connection to a slave's file server, for requests that `FilesClient` does not have: PUT and DELETE of data
    sets.

    Plain on loopback; elsewhere TLS, and only with the certificate whose fingerprint the master has sent. The first `ask`
    opens it. Waits `timeout_s` seconds for an answer. Raises what `http.client` raises, and an `OfferdError` that is also an
    `OSError` if the server is not that slave.
    """

    def __init__(self, door: FilesDoor, *, timeout_s: float) -> None:
        self.door = door
        self._answer_timeout_s = timeout_s
        super().__init__(door.address or "nowhere", timeout=min(CONNECT_TIMEOUT_S, timeout_s))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request for this path (not quoted), with the token for it, and return the response."""
        token = self.door.authorization(method, path)
        sent = {**(headers or {}), **({"Authorization": token} if token else {})}
        self.request(method, quote(path), body, sent)
        return self.getresponse()

    def content(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """The body of a response. Raises an `OfferdError` if it has more than `most` bytes."""
        content = response.read(most + 1)
        if len(content) > most:
            self.close()
            raise WrongServer(f"the server at {self.door.address} sends more than it was asked for")
        if response.length:
            raise http.client.IncompleteRead(content, response.length)
        return content

    def connect(self) -> None:
        """Open the connection, and check the server's certificate."""
        door = self.door
        if not door.address:
            raise WrongServer("the master gives no access to this slave's files; its log says why")
        if not door.fingerprint and not is_loopback(self.host):
            raise WrongServer(f"the files at {door.address} are served without TLS: nothing was sent")
        super().connect()
        self.sock.settimeout(self._answer_timeout_s)
        if not door.fingerprint:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        # This skips signatures only: TLS always proves that the server has the certificate's key.
        context.verify_mode = ssl.CERT_NONE
        try:
            self.sock = context.wrap_socket(self.sock)
            shown = self.sock.getpeercert(binary_form=True) or b""
        except ssl.SSLError as error:
            self.close()
            raise WrongServer(f"the server at {door.address} is not that slave: {error.reason}") from None
        if hashlib.sha256(shown).hexdigest() != door.fingerprint:
            self.close()
            raise WrongServer(f"the server at {door.address} is not that slave: it has another certificate")
