"""Where a driver's end is reported: to a caller that waits for it, else to the scheduler's `error`, else in the log."""

from __future__ import annotations

import pytest

from helpers.cli import wait_until
from helpers.fake_master import WAIT_S, FakeMaster
from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import FrameworkError, MasterUnreachable
from offerd.messages import Dropped, FrameworkInfo, Reason


class Silent(Scheduler):
    """Has no `error`."""


def test_an_end_that_nothing_else_reports_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeMaster() as master:
        driver = SchedulerDriver(Silent(), FrameworkInfo("x"), master.address)
        driver.start()
        driver.wait_registered(WAIT_S)
        master.send(Dropped("it sent nonsense"))
        wait_until(lambda: caplog.messages, "the driver's line")
        assert caplog.messages == [
            "the driver has ended: the master has closed the connection to this scheduler: it sent nonsense"
        ]
        with pytest.raises(FrameworkError, match="it sent nonsense") as caught:
            driver.join(WAIT_S)
        assert caught.value.reason == Reason.MESSAGE_INVALID


def test_an_end_that_join_raises_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    driver = SchedulerDriver(Silent(), FrameworkInfo("x"), "127.0.0.1:1", connect_timeout_s=0.1)
    with pytest.raises(MasterUnreachable):
        driver.run()
    assert not caplog.messages
