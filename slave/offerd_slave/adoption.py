"""When a slave starts, it adopts the containers that an earlier slave process has left running."""

from __future__ import annotations

import logging

from offerd.errors import BadInput
from offerd.ids import ContainerID, SlaveID
from offerd_isolation.base import Isolation, IsolationError
from offerd_linux.process_ids import ProcessID
from offerd_slave.containerizer import Containerizer
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.workdir import Found, WorkDir, from_checkpoint

log = logging.getLogger("offerd.slave")


def recover(
    found: Found, boot_id: str, workdir: WorkDir, isolation: Isolation, containerizer: Containerizer
) -> Recovered:
    """Watch the containers that still run; the core ends the others. Raises `BadInput` if the isolation module cannot be used
    here.
    """
    slave = found.slave
    rebooted = slave is not None and slave.boot_id != boot_id
    shims = {checkpoint.container_id: from_checkpoint(checkpoint.shim) for checkpoint in found.containers}
    containers = []
    for checkpoint in found.containers:
        alive = containerizer.adopt(checkpoint, shims[checkpoint.container_id])
        record = None if alive else containerizer.exits.record(workdir.container(checkpoint.container_id))
        containers.append(RecoveredContainer(checkpoint, alive, record))
    if containers:
        alive_count = sum(container.alive for container in containers)
        log.info(
            "found %d containers of an earlier slave process, %d of them run", len(containers), alive_count
        )
    return Recovered(
        slave_id=slave.slave_id if slave is not None else SlaveID(""),
        epoch=slave.epoch if slave is not None else 0,
        mode=slave.mode if slave is not None else "active",
        drain_end_at=slave.drain_end_at if slave is not None and not rebooted else None,
        drain_grace_s=slave.drain_grace_s if slave is not None else None,
        rebooted=rebooted,
        containers=containers,
        records=found.records,
        orphans=_adopt(containers, shims, isolation, containerizer),
        is_damaged=found.is_damaged,
    )


def _adopt(
    containers: list[RecoveredContainer],
    shims: dict[ContainerID, ProcessID | None],
    isolation: Isolation,
    containerizer: Containerizer,
) -> list[ContainerID]:
    """Have the isolation module adopt the containers; returns those that it finds and that have no checkpoint."""
    try:
        orphans = list(isolation.recover(shims))
    except IsolationError as error:
        raise BadInput(f"isolation {isolation.name} cannot be used here: {error}") from None
    for found in containers:
        if found.alive:
            try:
                containerizer.adopt_limits(found.checkpoint)
            except IsolationError as error:
                log.warning("container %s: %s", found.checkpoint.container_id, error)
    return orphans
