"""Everything about served files that the daemon needs: the data directory, the server and the secrets."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from offerd.addresses import HostPort, canonical, is_loopback, listening_ip, parse
from offerd.errors import BadInput
from offerd.files_access import FilesSecret
from offerd_slave.data_files import DataDirectory
from offerd_slave.files import FileServer
from offerd_slave.files_secrets import FilesSecrets, boot_clock
from offerd_slave.options import SlaveOptions

log = logging.getLogger("offerd.slave")

AGAIN_S = 60.0
"""How soon a new secret is tried again that could not be written."""


class FilesService:
    """The file service of one slave. It serves in threads of its own until `close`; its methods are for the daemon's
    thread."""

    def __init__(self, options: SlaveOptions, work_dir: Path, boot_id: str) -> None:
        """Bind and start to serve. Raises `BadInput`."""
        tls, fingerprint = None, ""
        ip = listening_ip(options.ip)
        if not is_loopback(ip):
            from offerd_slave.certificate import server_context  # imports OpenSSL

            tls, fingerprint = server_context(work_dir)
        self._secrets = FilesSecrets(work_dir, boot_id, boot_clock(), fingerprint)
        if self._secrets.complaint:
            log.error("%s", self._secrets.complaint)
        self._again_at = 0.0
        self._warned_for = ""  # the master for which the log says that its host cannot reach the files
        self.data = DataDirectory(options.data_dir or work_dir / "data")
        self._server = FileServer(HostPort(ip, options.http_port), work_dir, self.data, self._secrets, tls)

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients."""
        return self._server.address

    @property
    def secret(self) -> FilesSecret:
        """The secret to send to the master."""
        return self._secrets.current

    @property
    def refused(self) -> int:
        """How many requests came without a good token."""
        return self._server.refused

    def warn_if_out_of_reach(self, master: str) -> None:
        """Log, once for each master, that only this host can reach the files, if the master is on another one. `master`: its
        `HOST:PORT`."""
        if master != self._warned_for and (why := out_of_reach(self.address, master)):
            self._warned_for = master
            log.warning("%s", why)

    def set_statistics(self, statistics: Callable[[str | None], bytes]) -> None:
        """Set the function that makes the document of `/statistics`, for an owner, or for an operator (None)."""
        self._server.statistics = statistics

    def set_metrics(self, metrics: Callable[[], bytes]) -> None:
        """Set the function that makes the text of `/metrics`; it is called in the server's threads."""
        self._server.metrics = metrics

    def refuse(self, owners: Mapping[str, int]) -> FilesSecret | None:
        """Refuse these owners at once. Returns the new secret for all others, if that changes anything."""
        try:
            return self._secrets.current if self._secrets.refuse(owners, boot_clock()) else None
        except OSError as error:
            log.error(
                "cannot write down which owners' tokens for files are refused: %s; they are refused",
                error.strerror,
            )
            return None

    def tick(self) -> FilesSecret | None:
        """A new secret, if it is time for one."""
        now = boot_clock()
        if now < max(self._secrets.rotate_at, self._again_at):
            return None
        try:
            self._secrets.rotate(now)
        except OSError as error:
            self._again_at = now + AGAIN_S
            log.error("cannot write a new secret for files: %s; the old one stays in use", error.strerror)
            return None
        return self._secrets.current

    def close(self) -> None:
        """Stop accepting connections."""
        self._server.close()
        self.data.close()


def out_of_reach(served: str, master: str) -> str:
    """A line for the log, if only this host can reach files at this `HOST:PORT`, and the master is on another host; else
    empty."""
    if not _leads_here_alone(served) or _leads_here_alone(master):
        return ""
    return (
        f"no other host can reach the files of this slave, and with them its tasks' output: they are served at {served}, and "
        f"the master is at {master}; start the slave with --ip ADDRESS, by which others reach this host"
    )


def _leads_here_alone(address: str) -> bool:
    """Whether all addresses of this name are loopback ones. False for a name without an address."""
    try:
        found = socket.getaddrinfo(parse(address).host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError, BadInput):
        return False
    return all(is_loopback(canonical(str(each[4][0]))) for each in found)
