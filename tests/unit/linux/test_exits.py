"""Exit statuses in words."""

from __future__ import annotations

import pytest

from offerd_linux.exits import describe_exit, exit_words


@pytest.mark.parametrize(
    ("wait_status", "described"),
    [
        (0, (0, "exited with status 0")),
        (3 << 8, (3, "exited with status 3")),
        (15, (-15, "killed by SIGTERM")),
        (40, (-40, "killed by signal 40")),
    ],
)
def test_exits_are_described_in_words(wait_status: int, described: tuple[int, str]) -> None:
    assert describe_exit(wait_status) == described


def test_exit_words_fit_after_a_subject() -> None:
    assert f"it {exit_words(1)}" == "it exited with status 1"
    assert f"it {exit_words(-9)}" == "it was killed by SIGKILL"
