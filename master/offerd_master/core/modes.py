"""The mode that operators want of a slave (active, deactivated, draining, drained), and whether its disk is full.

The slave stores the wish and repeats it in every registration, so it survives restarts of slave and master. Until the slave has
confirmed it, the wish counts here whatever the slave reports, and a registration that does not know it is answered with it. A
full disk is not a wish: it is reported with registrations and usage, and does not change the mode.
"""

from __future__ import annotations

from offerd import messages as m
from offerd import operator_messages as om
from offerd.values.screen_text import printable
from offerd_master.core import offers
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Slave, SlaveState

_STATES = {
    "active": SlaveState.ACTIVE,
    "deactivated": SlaveState.DEACTIVATED,
    "draining": SlaveState.DRAINING,
    "drained": SlaveState.DRAINED,
    "leaving": SlaveState.DRAINING,
}
_WISHES = ("active", "deactivated", "draining")


def change_slave_mode(c: Cluster, caller: Caller, message: om.ChangeSlaveMode, now: float) -> None:
    """Pass an operator's wish on to the slave, and act by it here from now on."""
    slaves = c.slaves_named(message.slave)
    name = printable(message.slave)
    if message.mode not in _WISHES:
        text = f"{printable(message.mode, 64)} is not a mode of a slave; the modes are {', '.join(_WISHES)}"
        answer = om.Done(False, text)
    elif not slaves:
        answer = om.Done(False, f"no slave {name} is registered; `offerd slaves` lists them")
    elif len(slaves) > 1:
        ids = ", ".join(slave.slave_id for slave in slaves[:10])
        answer = om.Done(False, f"several slaves are called {name}; choose one of {ids}")
    elif slaves[0].peer is None:
        answer = om.Done(False, f"slave {name} is not connected at the moment; ask again when it is back")
    else:
        slave = slaves[0]
        c.log(f"slave {slave.slave_id} on {slave.info.hostname}: {message.mode}, ordered by an operator")
        slave.wish = m.SetSlaveMode(message.mode, c.settings.operator_grace_s, message.deadline_s)
        c.send(slave.peer, slave.wish)
        if not _obeys(slave.state, message.mode):
            _set_mode(c, slave, message.mode)
        answer = om.Done(True)
    c.send(caller.peer, answer)


def hear_mode(c: Cluster, slave: Slave, mode: str, *, is_registration: bool = False) -> None:
    """Take in the mode that the slave reports."""
    wish = slave.wish
    if wish is not None:
        if _obeys(mode, wish.mode) or mode == "leaving":
            slave.wish = None
        elif is_registration:
            c.send(slave.peer, wish)
            mode = wish.mode
        else:
            return  # sent before the wish reached it
    _set_mode(c, slave, mode)


def _obeys(mode: str, wished: str) -> bool:
    return mode == wished or (mode, wished) == ("drained", "draining")


def _set_mode(c: Cluster, slave: Slave, mode: str) -> None:
    """A mode that this master does not know counts as deactivated."""
    state = _STATES.get(mode, SlaveState.DEACTIVATED)
    if state is slave.state:
        return
    slave.state = state
    c.changes.touch(slave)
    _offer_or_not(c, slave)


def set_disk(c: Cluster, slave: Slave, *, is_full: bool) -> None:
    """Take in what the slave reports of its disk."""
    if is_full == slave.is_disk_full:
        return
    slave.is_disk_full = is_full
    c.changes.touch(slave)
    what = "its disk is full: it is not offered" if is_full else "its disk has room again"
    c.log(f"slave {slave.slave_id} on {slave.info.hostname}: {what}", "warning" if is_full else "info")
    _offer_or_not(c, slave)


def _offer_or_not(c: Cluster, slave: Slave) -> None:
    if slave.may_be_offered:
        c.mark_dirty(slave)
    else:
        offers.rescind(c, slave.offers.values())
        c.unmark(slave)
