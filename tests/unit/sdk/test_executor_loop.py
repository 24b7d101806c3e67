"""The executors' loop: delays that the kernel cannot wait for in one go, or not at all."""

from __future__ import annotations

import math
import os

import pytest

from offerd.drivers.executor_loop import Loop


@pytest.mark.parametrize("delay_s", [1e9, 1e300, math.inf])
def test_a_delay_longer_than_the_kernel_can_wait_blocks_nothing(delay_s: float) -> None:
    loop, done = Loop(), []
    loop.call_later(delay_s, lambda: done.append("late"))
    loop.call_later(0.01, lambda: done.append("soon"))
    loop.turn(None)
    assert done == ["soon"]
    loop.call_from_thread(lambda: done.append("woken"))
    loop.turn(None)
    assert done == ["soon", "woken"]
    loop.close()


@pytest.mark.parametrize("delay_s", [math.nan, -1.0, -math.inf])
def test_a_delay_that_is_not_a_number_is_zero(delay_s: float) -> None:
    loop, done = Loop(), []
    loop.call_later(3600.0, lambda: done.append("late"))
    loop.call_later(delay_s, lambda: done.append("now"))
    loop.turn(None)
    assert done == ["now"]
    loop.close()


def test_what_comes_first_may_leave_readers_for_another_turn() -> None:
    loop, done = Loop(), []
    reading, writing = os.pipe()
    os.close(writing)
    loop.add_reader(reading, lambda: done.append("read"))

    def first(may_read: bool) -> bool:
        done.append("first")
        return may_read

    loop.turn(None, lambda: first(False))
    assert done == ["first"]
    loop.turn(None, lambda: first(True))
    assert done == ["first", "first", "read"]
    loop.close()
    os.close(reading)
