"""How the MPI framework registers with a master."""

from __future__ import annotations

from typing import cast

from helpers.fake_master import FakeMaster
from offerd.messages import RegisterFramework
from offerd_frameworks.mpi.framework import MpiFramework, Watcher


class NoWatcher:
    def broken(self) -> None: ...


def test_only_slaves_with_the_attributes_that_were_asked_for_are_wanted() -> None:
    with FakeMaster() as master:
        framework = MpiFramework(
            cast(Watcher, NoWatcher()), master.address, user="ann", attributes={"rack": "7"}
        )
        framework.start()
        registration = master.expect(RegisterFramework)
        framework.close()
    assert (registration.framework.user, registration.needs_offers) == ("ann", False)
    assert registration.filters is not None
    assert registration.filters.attributes == {"rack": "7"}
