"""An executor that registers with its own token and then sends what no executor should: `fuzz_executor.py SEED FRAMES`.

Started by a slave as a framework's own executor; the slave may drop it, and end it, at any time. It connects again a few
times, as a new peer with the same token.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.hostile_messages import Hostile, seeded
from offerd import messages as m
from offerd.ids import ContainerID
from offerd.wire import codec
from offerd.wire.transport import new_context

FRAMES_A_CONNECTION = 20
WAIT_MS = 5_000


def main() -> None:
    seed, frames = int(sys.argv[1]), int(sys.argv[2])
    environ = os.environ
    hostile = Hostile(
        codec.from_executor,
        {
            "container_id": [environ["OFFERD_CONTAINER_ID"]],
            "token": [environ["OFFERD_TOKEN"]],
            "framework_id": [environ["OFFERD_FRAMEWORK_ID"]],
            "slave_id": [environ["OFFERD_SLAVE_ID"]],
            "executor_id": [environ["OFFERD_EXECUTOR_ID"]],
            "task_id": ["victim", "hostile"],
            "task_ids": ["victim", "hostile"],
        },
    )
    registration = m.RegisterExecutor(ContainerID(environ["OFFERD_CONTAINER_ID"]), environ["OFFERD_TOKEN"])
    context = new_context()
    for first in range(0, frames, FRAMES_A_CONNECTION):
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, WAIT_MS)
        socket.setsockopt(zmq.SNDTIMEO, WAIT_MS)
        socket.connect(environ["OFFERD_SLAVE_SOCKET"])
        try:
            hostile.well_formed = bool(first // FRAMES_A_CONNECTION % 4)
            if (first // FRAMES_A_CONNECTION) % 3:
                socket.send(next(codec.frames([registration])))
            for number in range(first, first + FRAMES_A_CONNECTION):
                socket.send(hostile.frame(seeded(seed * 1_000_003 + number)))
        except zmq.Again:
            pass  # the slave may stop reading
        socket.close()
    context.term()


if __name__ == "__main__":
    main()
