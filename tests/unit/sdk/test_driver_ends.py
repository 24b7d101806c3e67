"""Who hears of a driver's end: who waits for it, else the scheduler's `error`, else the log."""

from __future__ import annotations

import pytest

from helpers.cli import wait_until
from helpers.fake_master import WAIT_S, FakeMaster
from offerd.driver import Scheduler, SchedulerDriver
from offerd.errors import FrameworkError, MasterUnreachable
from offerd.messages import Dropped, FrameworkInfo, Reason


class Deaf(Scheduler):
    """Has no `error`."""


def test_an_end_that_nobody_waits_for_and_no_error_hears_of_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeMaster() as master:
        driver = SchedulerDriver(Deaf(), FrameworkInfo("x"), master.address)
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


def test_an_end_that_is_raised_to_who_waits_is_not_in_the_log_too(caplog: pytest.LogCaptureFixture) -> None:
    driver = SchedulerDriver(Deaf(), FrameworkInfo("x"), "127.0.0.1:1", connect_timeout_s=0.1)
    with pytest.raises(MasterUnreachable):
        driver.run()
    assert not caplog.messages
