"""What a master counts of its work since it leads. Each is a whole number that only rises."""

from __future__ import annotations


class Counts:
    """Followers get them by these names (`offerd.protocol.change_messages.MasterNow.counts`)."""

    __slots__ = (
        "messages_received", "offers_accepted", "offers_declined", "offers_made", "offers_rescinded", "offers_unanswered",
        "revocation_kills", "revocations", "status_repeats", "status_updates", "tasks_launched", "timeouts",
    )  # fmt: skip

    def __init__(self) -> None:
        self.messages_received = 0
        """Of registered peers and of others."""
        self.offers_made = 0
        self.offers_accepted = 0
        """Offers that tasks were launched on, or that were named beside a bad one."""
        self.offers_declined = 0
        self.offers_rescinded = 0
        """Taken back, for whatever reason."""
        self.offers_unanswered = 0
        """Those among the rescinded that were not answered in time."""
        self.revocations = 0
        """Tasks that their frameworks were given notice to give up."""
        self.revocation_kills = 0
        """Tasks that were killed after such a notice."""
        self.tasks_launched = 0
        self.timeouts = 0
        """Tasks that were ended by their time limit."""
        self.status_updates = 0
        """From slaves; the repeats are among them."""
        self.status_repeats = 0
        """Status updates that said nothing new. A slave repeats what is not acknowledged."""

    def tallies(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}
