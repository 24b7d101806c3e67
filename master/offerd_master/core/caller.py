"""The sender of a registration or of an operator's question. It goes along with the message to the handlers that need it.

A registered peer is known by its connection (`Cluster.peers`), and each of its messages is checked against its key before a
handler sees it (`authorization`). So only these two kinds of messages need their sender.
"""

from __future__ import annotations

from typing import NamedTuple

from offerd.ids import FrameworkID, PeerID
from offerd_master.principals import Principal


class Caller(NamedTuple):
    """The connection that brought a message, and its owner."""

    peer: PeerID
    principal: Principal | None = None
    """The owner of its key; None where peers have no keys: then everybody may do everything."""
    ip: str = ""
    """The peer's address; known only for a slave's registration."""

    @property
    def name(self) -> str:
        """The principal's name; empty where peers have no keys."""
        return "" if self.principal is None else self.principal.name

    @property
    def is_operator(self) -> bool:
        """Whether it may see and end everybody's frameworks and tasks."""
        return self.principal is None or self.principal.operator

    @property
    def shown_owner(self) -> str:
        """The owner whose frameworks alone it is shown; empty: it sees all."""
        return "" if self.is_operator else self.name

    def sees(self, framework_id: FrameworkID) -> bool:
        """Whether it may see this framework and end its tasks."""
        return self.principal is None or self.principal.operator or self.principal.owns(framework_id)
