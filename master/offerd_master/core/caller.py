"""Who sends a hello or an operator's question: it goes with the message, down to the handlers that ask who that is.

A peer that has registered is known by its connection (`Cluster.peers`), and each of its messages is checked against its key
before a handler sees it (`authorization`). So only these two kinds of messages bear their sender with them.
"""

from __future__ import annotations

from typing import NamedTuple

from offerd.ids import FrameworkID, PeerID
from offerd_master.principals import Principal


class Caller(NamedTuple):
    """The connection that a message came over, and whose it is."""

    peer: PeerID
    principal: Principal | None = None
    """Whose key it has; None where peers have no keys: then everybody may do everything."""
    ip: str = ""
    """From where; known of a slave's hello."""

    @property
    def name(self) -> str:
        """The principal's; empty where peers have no keys."""
        return "" if self.principal is None else self.principal.name

    @property
    def is_operator(self) -> bool:
        """Whether it may see and end what is anybody's."""
        return self.principal is None or self.principal.operator

    @property
    def shown_owner(self) -> str:
        """Whose frameworks alone it is shown; empty: all."""
        return "" if self.is_operator else self.name

    def sees(self, framework_id: FrameworkID) -> bool:
        """Whether it may hear of this framework, and end what is its."""
        return self.principal is None or self.principal.operator or self.principal.owns(framework_id)
