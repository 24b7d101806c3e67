"""Which messages of a principal are refused, where peers have keys.

The connection has proved the key. Two questions are left: may its owner act in this part (slave, role, user, operator), and was
the id under which it speaks given to it? An id ends with its owner's name (`offerd_master.principals`), so no table is needed.
"""

from __future__ import annotations

import msgspec

from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import PeerID
from offerd.messages import Reason
from offerd.protocol.change_messages import FollowChanges
from offerd.protocol.recording_messages import RecordEvents
from offerd_master.core.cluster import Cluster
from offerd_master.core.rights import fault
from offerd_master.core.state import Framework, Slave, Standby
from offerd_master.principals import Principal

OPEN_TO_FRAMEWORKS: dict[type[m.Message], str] = {
    om.GetCluster: "look at the cluster",
    om.GetSlaves: "list slaves",
    om.GetFrameworks: "list frameworks",
    om.GetTasks: "list tasks",
    FollowChanges: "follow the cluster",
    om.KillAnyTask: "kill tasks",
    om.EndFramework: "end frameworks",
    om.ExplainWaiting: "ask why a framework waits",
    om.ExplainFramework: "ask why a framework waits",
}
"""What an owner of frameworks may ask and order, with words for people. It sees, finds and ends only its own frameworks:
the handlers ask `Caller.sees`. It may list all slaves, since offers name them anyway.
"""
NAMES_A_FRAMEWORK = (om.GetTasks, om.KillAnyTask, om.ExplainWaiting)
"""Those of them that name a framework by its id: naming another owner's is refused."""
OPERATORS_ONLY: dict[type[m.Message], str] = {
    om.ChangeSlaveMode: "drain, deactivate or activate slaves",
    om.NewToken: "let others join",
    om.GetTokens: "list tokens",
    om.RevokeToken: "revoke tokens",
    om.GetKeys: "list keys",
    om.RevokeKey: "revoke keys",
    RecordEvents: "record what daemons do",
}
"""What only operators may ask and order, with words for people."""
FOR_JOINING = (om.Enrol,)
"""The only messages that a token may send, and nobody else sends them."""


def refusal(who: Principal, sender: Slave | Framework | Standby | None, message: m.Message) -> str:
    """Why this message is refused, as one line; empty if it is allowed. `sender`: what its connection is registered as."""
    kind = type(message)
    if who.token:
        return "" if kind in FOR_JOINING else "a join token is good for joining only"
    if kind in FOR_JOINING:
        return "joining needs a token from `offerd token new`; this key is known already"
    # A registration without an id may speak for the id that its connection already has.
    if sender is not None and not who.owns(_id_of(sender)):
        return f"this connection belongs to {_id_of(sender)}, which was not given to {who.name}"
    if isinstance(message, m.RegisterSlave):
        return _slave_refusal(who, message.slave.slave_id)
    if isinstance(message, m.RegisterFramework):
        info = message.framework
        return _framework_refusal(who, info.framework_id, info.role, user_of(who, info))
    if kind is om.GetSlaves and who.slave:
        return ""  # it sees only its own entry (`queries.get_slaves`)
    if kind in OPEN_TO_FRAMEWORKS:
        if who.operator:
            return ""
        named = message.framework_id if isinstance(message, NAMES_A_FRAMEWORK) else ""
        if not who.has_frameworks:
            return f"{who.name} may not {OPEN_TO_FRAMEWORKS[kind]}: its key is neither an operator's nor for frameworks"
        return "" if not named or who.owns(named) else _not_given("framework", named, who)
    if kind in OPERATORS_ONLY:
        what = OPERATORS_ONLY[kind]
        return (
            ""
            if who.operator
            else f"{who.name} may not {what}: its key is not an operator's; ask an operator"
        )
    # Checked with every message, because rights can be taken away.
    if isinstance(sender, Slave):
        return _slave_refusal(who, sender.slave_id)
    if sender is not None:
        return _framework_refusal(who, sender.framework_id, sender.info.role, sender.info.user)
    return ""


def _id_of(sender: Slave | Framework | Standby) -> str:
    return sender.slave_id if isinstance(sender, Slave) else sender.framework_id


def _slave_refusal(who: Principal, slave_id: str) -> str:
    if not who.slave:
        return f"{who.name} may not be a slave"
    if slave_id and not who.owns(slave_id):
        return _not_given("slave", slave_id, who)
    return ""


def _framework_refusal(who: Principal, framework_id: str, role: str, user: str) -> str:
    if why := fault(who, role, user):
        return why
    if framework_id and not who.owns(framework_id):
        return _not_given("framework", framework_id, who)
    return ""


def _not_given(what: str, named: str, who: Principal) -> str:
    return f"{what} id {named[:128]} was not given to {who.name}"


def with_user(who: Principal, message: m.Message) -> m.Message:
    """The message; a framework's registration gets the user as which the framework will run."""
    if not isinstance(message, m.RegisterFramework):
        return message
    info = msgspec.structs.replace(message.framework, user=user_of(who, message.framework))
    return msgspec.structs.replace(message, framework=info)


def user_of(who: Principal, info: m.FrameworkInfo) -> str:
    """The user as which a framework runs: the one that it names; else the account that submits it, if its key allows that; else
    the first user that its key names; "" leaves it to each slave.
    """
    if info.user:
        return info.user
    if info.account and who.may_run_as(info.account):
        return info.account
    return who.default_user


def refuse(c: Cluster, peer: PeerID, message: m.Message, name: str, why: str) -> None:
    """Answer that the message is refused, log it and count it."""
    c.refused += 1
    c.log(f"refused {name}: {why} ({type(message).__name__})", "warning")
    if isinstance(message, m.RegisterSlave):
        c.send(peer, m.SlaveRefused(Reason.NOT_AUTHORIZED, why))
    elif isinstance(message, m.RegisterFramework):
        c.send(peer, m.FrameworkRefused(Reason.NOT_AUTHORIZED, why))
    elif isinstance(message, (*OPEN_TO_FRAMEWORKS, *OPERATORS_ONLY, *FOR_JOINING)):
        c.send(peer, om.NotAuthorized(why))
    else:
        sender = c.peers.get(peer)
        said = m.SlaveRefused if isinstance(sender, Slave) else m.FrameworkRefused
        c.send(peer, said(Reason.NOT_AUTHORIZED, why))
