"""Who asks, and what they may see and do: the owner of a web token, with the rights that the master's keys give now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus

from offerd.errors import OfferdError
from offerd.ids import owner_of
from offerd.operator_messages import Rights
from offerd_web.services.desk import Desk
from offerd_web.services.refusal import Refusal
from offerd_web.services.web_tokens import THIS_HOST

FRESH_S = 5.0
"""Rights that were asked for longer ago than this are asked for again."""
WAIT_S = 0.5
"""How long a request waits for newer rights, where older ones are known."""
STALE_S = 600.0
"""While no master answers, the last known rights count for so long."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request. The same rules as the master's: see `offerd_master.core.caller`."""

    name: str
    """The owner of the key; empty where peers have no keys."""
    is_operator: bool

    @property
    def only_of(self) -> str:
        """The owner whose frameworks alone it sees; empty: it sees all."""
        return "" if self.is_operator else self.name

    def sees(self, framework_id: str) -> bool:
        return self.is_operator or owner_of(framework_id) == self.name

    def must_be_operator(self) -> None:
        """Raises `Refusal`."""
        if not self.is_operator:
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"only an operator may do that; the key of {self.name} is not one's"
            )


class Callers:
    """Knows the owners of keys, as the master does."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rights: dict[str, Rights] = {}
        self._heard_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._error: OfferdError | None = None
        """Why the master did not answer when it was asked last."""

    async def caller(self, name: str) -> Caller:
        """The caller of this name. Raises `Refusal` if the master knows no such key, and `MasterUnreachable` if it cannot be
        asked.
        """
        if name == THIS_HOST or not self._desk.has_keys:
            return Caller("", is_operator=True)
        age_s = time.monotonic() - self._heard_at
        if age_s > FRESH_S and self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            # Whoever has lost rights must not go on; but while no master answers, those that are known count for a while.
            await asyncio.wait([self._asking], timeout=None if age_s > STALE_S else WAIT_S)
        if self._error is not None and time.monotonic() - self._heard_at > STALE_S:
            raise self._error
        rights = self._rights.get(name)
        if rights is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, f"the master knows no key of {name} any more")
        return Caller(name, rights.operator)

    async def _ask(self) -> None:
        try:
            self._rights = await self._desk.rights()
            self._heard_at, self._error = time.monotonic(), None
        except OfferdError as error:
            self._error = error  # for whoever waits; nobody may
        finally:
            self._asking = None
