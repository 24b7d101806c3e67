"""What the MPI framework says of itself to a master."""

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
        hello = master.expect(RegisterFramework)
        framework.close()
    assert (hello.framework.user, hello.needs_offers) == ("ann", False)
    assert hello.filters is not None
    assert hello.filters.attributes == {"rack": "7"}
