"""Operators' messages about keys: tokens by which others join, joining itself, and revoking keys and tokens.

A change is written down before it is answered. One order follows another: each is decided (`offerd_master.core.registry`) when
the change before it is safe. So no answer speaks of a change that a later master does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offerd import messages as m
from offerd import operator_messages as om
from offerd.errors import BadInput
from offerd.ids import PeerID
from offerd_master.core import terms
from offerd_master.core.actions import CutOff, KeepChange
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.queries import following, page_of
from offerd_master.core.registry import Change, Contents, InHand, Order, Refused, Registry
from offerd_master.principals import Principal, Principals, principal_of, rights_of

MAX_WAITING = 200
MAX_OF_A_TOKEN = 20
"""How many of the waiting orders may come from those who join by one token, so that they leave room for operators."""
NO_KEYS = "this master has no keys; start it with --key and --authorized (`offerd master init` makes them)"


# -- Changes ------------------------------------------------------------------------------------------------------------


def order(c: Cluster, caller: Caller, message: m.Message, now: float) -> None:
    """Decide the order when its turn comes."""
    who = caller.principal
    if c.registry is None or who is None:
        c.send(caller.peer, om.NotAuthorized(NO_KEYS))
    elif _is_crowded(c, caller.peer, who.token):
        c.send(caller.peer, _no(message, "many others wait for their keys; try again"))
    else:
        c.orders.append(Order(caller.peer, message, who))
        _go_on(c, c.registry, now)


def _is_crowded(c: Cluster, peer: PeerID, token: str) -> bool:
    if not token:
        return len(c.orders) >= MAX_WAITING
    own = [order.peer for order in c.orders if order.who.token == token]
    return len(own) >= MAX_OF_A_TOKEN or peer in own


def change_kept(c: Cluster, fault: str, now: float) -> None:
    """The change in hand is written; or it could not be written, and then nothing has changed."""
    in_hand, registry = c.in_hand, c.registry
    c.in_hand = None
    if in_hand is None or registry is None:
        return
    order = in_hand.order
    if fault:
        c.log(f"not written down: {in_hand.done}: {fault}", "warning")
        c.send(order.peer, _no(order.message, f"the master cannot write the change down: {fault}"))
    else:
        gone = registry.apply(in_hand.change)
        c.log(in_hand.done)
        c.send(order.peer, in_hand.answer)
        _authorize(c, registry, gone, now)
    _go_on(c, registry, now)


def authorized_read(c: Cluster, principals: Principals, now: float) -> None:
    """The `--authorized` file was read again."""
    if c.registry is not None:
        _authorize(c, c.registry, c.registry.set_file(principals), now)


def enrolment_read(c: Cluster, contents: Contents, now: float) -> None:
    """The enrolled keys and tokens were read again."""
    if c.registry is not None:
        _authorize(c, c.registry, c.registry.take(contents), now)


def _authorize(c: Cluster, registry: Registry, gone: frozenset[str], now: float) -> None:
    """The registry has changed, and these public keys are no longer authorized: what runs by a right that is gone ends."""
    terms.authorize(c, registry.authorized, now)
    if gone:
        c.out.append(CutOff(gone))


def handshake_refused(c: Cluster, who: str, cause: str) -> None:
    """The gate has refused a connection: count it, and log it if it is new."""
    c.refused += 1
    if cause and c.registry is not None:
        c.registry.refused[cause] += 1
    if who:
        c.log(f"refused {who}", "warning")


def _go_on(c: Cluster, registry: Registry, now: float) -> None:
    while c.in_hand is None and c.orders:
        order = c.orders.popleft()
        try:
            change, answer, done = _DECIDE[type(order.message)](registry, order, now)
        except Refused as refused:
            if refused.cause:
                registry.refused[refused.cause] += 1
                c.refused += 1
            c.log(f"refused {order.who.name}: {refused} ({type(order.message).__name__})", "warning")
            c.send(order.peer, _no(order.message, str(refused)))
            continue
        if change is None:
            c.send(order.peer, answer)
        else:
            c.in_hand = InHand(order, change, answer, done)
            c.out.append(KeepChange(change))


Decision = tuple[Change | None, m.Message, str]


def _new_token(registry: Registry, order: Order, now: float) -> Decision:
    message = order.message
    assert isinstance(message, om.NewToken)
    rights = _rights(message.rights)
    token, change = registry.new_token(message.key, rights, message.ttl_s, message.uses, order.who, now)
    done = f"{order.who.name} has made token {token.token_id}: {described(rights)}, {message.ttl_s:g} s, {message.uses} uses"
    return change, om.Token(token.token_id, token.ttl_s), done


def _rights(said: om.Rights) -> Principal:
    try:
        return principal_of(said)
    except BadInput as error:
        raise Refused(str(error)) from None


def _enrol(registry: Registry, order: Order, now: float) -> Decision:
    message = order.message
    assert isinstance(message, om.Enrol)
    enrolled, change = registry.enrol(order.who.token, message.name, message.key, now)
    rights = enrolled.principal
    done = f"{message.name} has joined by {order.who.name} of {enrolled.by}: {described(rights)}, key {message.key}"
    return change, om.Enrolled(message.name, rights_of(rights)), done


def _revoke_key(registry: Registry, order: Order, now: float) -> Decision:
    message = order.message
    assert isinstance(message, om.RevokeKey)
    change = registry.revoke_key(message.name)
    return change, om.Done(True), f"{order.who.name} has revoked the key of {message.name}"


def _revoke_token(registry: Registry, order: Order, now: float) -> Decision:
    message = order.message
    assert isinstance(message, om.RevokeToken)
    change = registry.revoke_token(message.token_id)
    return change, om.Done(True), f"{order.who.name} has revoked the token {message.token_id}"


_DECIDE: dict[type, Callable[[Registry, Order, float], Any]] = {
    om.NewToken: _new_token,
    om.Enrol: _enrol,
    om.RevokeKey: _revoke_key,
    om.RevokeToken: _revoke_token,
}


def _no(message: m.Message, text: str) -> m.Message:
    return (
        om.Done(False, text) if isinstance(message, om.RevokeKey | om.RevokeToken) else om.NotAuthorized(text)
    )


# -- Questions ----------------------------------------------------------------------------------------------------------


def get_tokens(c: Cluster, caller: Caller, message: om.GetTokens, now: float) -> None:
    if c.registry is None:
        c.send(caller.peer, om.NotAuthorized(NO_KEYS))
        return
    good = sorted(c.registry.good_tokens(now), key=lambda token: token.until)
    page = [
        om.TokenSummary(token.token_id, rights_of(token.rights), token.uses_left, token.until - now, token.by)
        for token in good
    ]
    c.send(caller.peer, om.Tokens(page, dict(c.registry.refused)))


def get_keys(c: Cluster, caller: Caller, message: om.GetKeys, now: float) -> None:
    registry = c.registry
    if registry is None:
        c.send(caller.peer, om.NotAuthorized(NO_KEYS))
        return
    key_of = {who.name: key for key, who in registry.principals.items() if not who.token}
    names = following(key_of, message.after, message.limit)

    def summary(name: str) -> om.KeySummary:
        enrolled = registry.enrolled.get(name)
        is_enrolled = enrolled is not None and enrolled.key == key_of[name]
        by = enrolled.by if enrolled is not None and is_enrolled else ""
        return om.KeySummary(name, key_of[name], rights_of(registry.by_name[name]), is_enrolled, by)

    page, more = page_of(map(summary, names), message.limit)
    c.send(caller.peer, om.Keys(page, more))


def described(who: Principal) -> str:
    """What somebody may do, in words for people."""
    parts = [word for word, has in (("slave", who.slave), ("operator", who.operator)) if has]
    if who.has_frameworks:
        roles, users = "(all)" if who.every_role else ",".join(who.roles), ",".join(who.users)
        parts.append(f"roles {roles}, users {users}{' and all except root' if who.every_user else ''}")
    return " ".join(parts)
