"""A slave's file server with its own work directory, and a client with access to it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import unquote

from offerd.addresses import HostPort
from offerd.files_access import FilesAccess, access_to
from offerd_slave.data_files import DataDirectory
from offerd_slave.files import FileServer
from offerd_slave.files_secrets import FilesSecrets, boot_clock
from offerd_slave.served_paths import OWNER

WHO = "alice"
ANSWER_TIMEOUT_S = 20.0


class FilesSite:
    """Serves the sandbox of one container, `c1`, of alice's, and data; asks as alice unless another name is given."""

    def __init__(self, work_dir: Path, *, tls: ssl.SSLContext | None = None, fingerprint: str = "") -> None:
        self.work_dir = work_dir
        self.sandbox = self.container("c1", WHO)
        (self.sandbox.parent / "container.ckpt").write_text("secret")
        (work_dir / "secret").write_text("secret")
        self.fingerprint = fingerprint
        self.path = work_dir / "data"
        self.secrets = FilesSecrets(work_dir, "boot", boot_clock())
        self.data = DataDirectory(self.path)
        self.server = FileServer(HostPort("127.0.0.1", 0), work_dir, self.data, self.secrets, tls)

    def close(self) -> None:
        self.server.close()
        self.data.close()

    def container(self, name: str, owner: str) -> Path:
        """Make one, and return its sandbox."""
        sandbox = self.work_dir / "containers" / name / "sandbox"
        sandbox.mkdir(parents=True)
        (sandbox.parent / OWNER).write_text(owner)
        return sandbox

    def access(self, name: str = WHO, *, operator: bool = False) -> FilesAccess:
        """Access as the master gives it."""
        current = self.secrets.current
        return access_to(
            current.secret, current.generation, self.server.address, self.fingerprint, name, operator=operator
        )

    def token(self, method: str, path: str, name: str = WHO, *, operator: bool = False) -> str:
        return self.access(name, operator=operator).authorization(
            method, unquote(path.partition("?")[0], errors="surrogateescape")
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        token: str | None = None,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """With alice's token for it unless another is given; `token=""` sends none."""
        given = self.token(method, path) if token is None else token
        sent = {**({"Authorization": given} if given else {}), **(headers or {})}
        connection = http.client.HTTPConnection(self.server.address, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """A file of the sandbox."""
        status, body, _ = self.ask("GET", f"/containers/c1/{path}", headers=headers)
        return status, body

    def connect(self) -> socket.socket:
        host, _, port = self.server.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S)

    def raw(self, request: bytes | str) -> tuple[int, bytes]:
        """The answer to bytes that a client library would not send."""
        with self.connect() as connection:
            connection.sendall(request if isinstance(request, bytes) else request.encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read()

    def head(self, method: str, path: str, *more: str, name: str = WHO) -> str:
        """A request's head with alice's token, as text."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: {self.token(method, path, name)}",
        ]
        return "\r\n".join([*lines, *more]) + "\r\n\r\n"

    def names(self) -> list[str]:
        """What lies in the data directory, below alice's."""
        own = self.path / f"@{WHO}"
        return sorted(os.fspath(path.relative_to(own)) for path in own.rglob("*"))
