"""Fetches `GET /metrics` of a slave (`offerd_slave.metrics`) with access that the master has given."""

from __future__ import annotations

import http.client

from offerd.errors import OfferdError
from offerd.files_access import FilesAccess
from offerd.files_connection import FilesConnection
from offerd.values.screen_text import printable

TIMEOUT_S = 5.0
"""Prometheus itself waits ten seconds."""
MAX_BYTES = 8 << 20
"""Several times what a slave with the most containers answers."""
MAX_LINE_BYTES = 1000


class SlaveMetricsUnavailable(OfferdError):
    """The slave cannot be reached, is not the one that was meant, or refuses; one line says why."""


def fetch(files: FilesAccess) -> bytes:
    """The slave's text, as it is: for Prometheus, which reads it with bounds of its own. `files` must be an operator's. Raises
    `SlaveMetricsUnavailable`. Waits for seconds, so not to be called in an event loop.
    """
    connection = FilesConnection(files, timeout_s=TIMEOUT_S)
    try:
        answer = connection.ask("GET", "/metrics")
        if answer.status != http.client.OK:
            said = answer.read(MAX_LINE_BYTES).decode(errors="replace").strip()
            raise SlaveMetricsUnavailable(
                f"the slave answers {answer.status}: {printable(said or answer.reason)}"
            )
        return connection.content(answer, MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise SlaveMetricsUnavailable(printable(str(error)) or type(error).__name__) from None
    finally:
        connection.close()
