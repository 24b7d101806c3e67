"""Access to the slaves' files: derived from each slave's secret, and given to the owners of frameworks and to operators.

A slave says where it serves its files, but only the port is taken on trust. The host must be the address that the slave
connects from; otherwise a slave could direct requests to somebody else's server. A slave on the master's own host connects from
loopback. It may name the address by which others reach that host if it serves TLS there: then no other server can read a
request.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from offerd import messages as m
from offerd.addresses import ANY, ANY_6, HostPort, is_any, is_ip, is_link_local, is_loopback, parse
from offerd.errors import BadInput
from offerd.files_access import NO_ACCESS, OPERATOR, OWNER, FilesAccess, FilesSecret, access_to
from offerd.ids import FrameworkID, SlaveID, owner_of
from offerd.protocol import files_messages as fm
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework, Slave

MAX_DERIVED = 16
"""How many accesses of one slave are cached; to derive one costs some microseconds."""
MAX_REFUSED = 10_000
NUMBERS_PER_EPOCH = 1024


# -- Messages of slaves -------------------------------------------------------------------------------------------------


def address_of(c: Cluster, caller: Caller, slave_id: SlaveID, message: m.RegisterSlave) -> str:
    """Where others reach a slave's files; empty, with a line in the log, if that is not where it connects from."""
    address = message.slave.files_address
    if not address:
        return ""
    out_of_reach = f"the files of slave {slave_id} are out of reach"
    try:
        said, port = place = parse(address)
    except BadInput:
        c.log(f"{out_of_reach}: {address[:64]!r} is not HOST:PORT", "warning")
        return ""
    seen = caller.ip
    if not seen:
        return str(place)
    if not is_ip(said):
        c.log(f"{out_of_reach}: {address[:64]!r} is not an IP address", "warning")
        return ""
    if is_link_local(seen):
        c.log(
            f"{out_of_reach}: it connects from {seen}, by which others do not reach it; have it connect to an address of this "
            "master that is not link-local",
            "warning",
        )
        return ""
    if said == ANY_6 or (said == ANY and ":" not in seen):
        return str(HostPort(seen, port))
    if said == seen or (is_loopback(said) and is_loopback(seen)):
        return str(place)
    if is_loopback(seen) and not is_any(said) and message.files is not None and message.files.fingerprint:
        return str(place)
    c.log(
        f"{out_of_reach}: it serves them on {said}, but connects from {seen}; start it with --ip {seen}",
        "warning",
    )
    return ""


def take_secret(slave: Slave, secret: FilesSecret | None) -> None:
    """Use this secret from now on."""
    slave.files = secret
    slave.files_accesses.clear()


def files_secret_changed(c: Cluster, slave: Slave, message: fm.FilesSecretChanged, now: float) -> None:
    take_secret(slave, message.files)
    renew(c, slave)


# -- Handing out --------------------------------------------------------------------------------------------------------


def access_of_framework(slave: Slave, framework_id: FrameworkID) -> FilesAccess:
    """For the owner of this framework, who may read and write its own files."""
    return _access(slave, owner_of(framework_id), operator=False)


def access_of_caller(caller: Caller, slave: Slave) -> FilesAccess:
    """For the caller; an operator may read everything."""
    return _access(slave, caller.name, operator=caller.is_operator)


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
    """Send new access to the frameworks that have executors on this slave, or had some when it last reported. What they were
    given expires within hours, has expired, or names an old address; but the files of their tasks are still there.
    """
    if slave.files is None:
        return
    for framework_id in dict.fromkeys([*slave.executors, *had_executors_of]):
        access = access_of_framework(slave, framework_id)
        c.send(c.frameworks[framework_id].peer, fm.FilesRenewed({slave.slave_id: access}))


def hand_out_again(c: Cluster, framework: Framework) -> None:
    """Send a returning scheduler the access to all slaves with its tasks and executors: it may have missed a renewal."""
    slaves = {task.slave.slave_id: task.slave for task in framework.tasks.values()}
    if framework.executors_running > len(slaves):
        # Some executors have no task. Counting first matters: thousands of frameworks may return to a new master at once.
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
    """Have all slaves refuse the access given to these owners and operators until now; slaves that are away, on their return.

    To be called when a key is taken away. If the name is given to another key later, its access is of a later generation.
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


def send_refused(c: Cluster, slave: Slave) -> None:
    """Send a returning slave the owners to refuse: it may have missed some."""
    if c.refused_owners:
        c.send(slave.peer, fm.RefuseOwners(dict(c.refused_owners)))
