"""Access to the slaves' files: derived from each slave's secret and handed to the owners of frameworks and to operators.

A slave says where its files are; only the port is believed as it stands. The host must be the one that the slave speaks
from: else a slave could have others ask, in its place, a server that is not its own. One on the master's own host speaks from
loopback, and may name the address that others reach that host by, as long as it speaks TLS there: then no other server hears
a request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from itertools import islice

from offerd import files_messages as fm
from offerd import messages as m
from offerd.files_access import NO_ACCESS, OPERATOR, OWNER, FilesAccess, FilesSecret, access_to
from offerd.ids import FrameworkID, SlaveID, owner_of
from offerd_master.core.state import Cluster, Framework, Slave

MAX_DERIVED = 16
"""Accesses of one slave that are kept; one more costs some microseconds."""
MAX_REFUSED = 10_000
NUMBERS_PER_EPOCH = 1024


# -- Messages of slaves -------------------------------------------------------------------------------------------------


def address_of(c: Cluster, slave_id: SlaveID, message: m.RegisterSlave) -> str:
    """Where a slave's files are for others; empty, with a line in the log, if that is not where it speaks from."""
    address = message.slave.files_address
    host, _, port = address.rpartition(":")
    if not address:
        return ""
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        c.log(f"the files of slave {slave_id} are out of reach: {address[:64]!r} has no port", "warning")
        return ""
    if not c.sender_ip:
        return address
    try:
        said, seen = ipaddress.ip_address(host.strip("[]")), ipaddress.ip_address(c.sender_ip)
    except ValueError:
        c.log(f"the files of slave {slave_id} are out of reach: {address[:64]!r} is no address", "warning")
        return ""
    if said.is_unspecified:
        return f"{c.sender_ip}:{port}"
    if said == seen or (said.is_loopback and seen.is_loopback):
        return address
    if seen.is_loopback and message.files is not None and message.files.fingerprint:
        return address
    c.log(
        f"the files of slave {slave_id} are out of reach: it serves them on {said}, and speaks from {seen}; start it with "
        f"--ip {seen}",
        "warning",
    )
    return ""


def take_secret(slave: Slave, secret: FilesSecret | None) -> None:
    """What is handed out from now on."""
    slave.files = secret
    slave.files_accesses.clear()


def files_secret_changed(c: Cluster, slave: Slave, message: fm.FilesSecretChanged, now: float) -> None:
    take_secret(slave, message.files)
    renew(c, slave)


# -- Handing out --------------------------------------------------------------------------------------------------------


def access_of_framework(slave: Slave, framework_id: FrameworkID) -> FilesAccess:
    """For the owner of this framework, whose own it reads and writes."""
    return _access(slave, owner_of(framework_id), operator=False)


def access_of_asker(c: Cluster, slave: Slave) -> FilesAccess:
    """For whoever has sent the message in hand: an operator's reads everything."""
    asker = c.asker
    return _access(slave, "" if asker is None else asker.name, operator=asker is None or asker.operator)


def _access(slave: Slave, name: str, *, operator: bool) -> FilesAccess:
    found = slave.files_accesses.get(identity := f"{OPERATOR if operator else OWNER}{name}")
    if found is not None:
        return found
    address, files = slave.info.files_address, slave.files
    if files is None or not address:
        return NO_ACCESS
    if len(slave.files_accesses) >= MAX_DERIVED:
        slave.files_accesses.clear()
    found = access_to(files.secret, files.generation, address, files.fingerprint, name, operator=operator)
    slave.files_accesses[identity] = found
    return found


def renew(c: Cluster, slave: Slave, had_executors_of: Iterable[FrameworkID] = ()) -> None:
    """Those who have executors there, or had when it was last heard of, were handed what dies some hours from now, or is dead
    already, or led to where it is no more: what their tasks wrote is still there.
    """
    if slave.files is None:
        return
    for framework_id in dict.fromkeys([*slave.executors, *had_executors_of]):
        access = access_of_framework(slave, framework_id)
        c.send(c.frameworks[framework_id].peer, fm.FilesRenewed({slave.slave_id: access}))


def hand_out_again(c: Cluster, framework: Framework) -> None:
    """To a scheduler that comes back, for all slaves that its tasks and executors are on: it may have missed a renewal."""
    slaves = {task.slave.slave_id: task.slave for task in framework.tasks.values()}
    if framework.executors_running > len(slaves):
        # Some have no task now. Thousands of frameworks come at once to a new master: it has no executors yet.
        slaves = {
            slave_id: slave
            for slave_id, slave in c.slaves.items()
            if slave_id in slaves or framework.framework_id in slave.executors
        }
    found = iter(
        [
            (slave_id, access_of_framework(slave, framework.framework_id))
            for slave_id, slave in slaves.items()
            if slave.files is not None
        ]
    )
    while part := dict(islice(found, fm.MAX_RENEWED)):
        c.send(framework.peer, fm.FilesRenewed(part))


# -- Taking back --------------------------------------------------------------------------------------------------------


def refuse_owners(c: Cluster, names: Iterable[str]) -> None:
    """Have all slaves refuse what these owners and operators were handed until now, those that are away when they are back.

    To be called when a key is taken away. Who gets one under the same name later is handed access of a later generation.
    """
    number = max([c.epoch * NUMBERS_PER_EPOCH, *c.refused_owners.values()]) + 1
    new = dict.fromkeys(sorted(set(names)), number)
    if not new:
        return
    for name in new:
        c.refused_owners.pop(name, None)
    c.refused_owners.update(new)
    while len(c.refused_owners) > MAX_REFUSED:
        del c.refused_owners[next(iter(c.refused_owners))]
    for slave in c.slaves.values():
        c.send(slave.peer, fm.RefuseOwners(new))


def tell_refused(c: Cluster, slave: Slave) -> None:
    """It may have been away."""
    if c.refused_owners:
        c.send(slave.peer, fm.RefuseOwners(dict(c.refused_owners)))
