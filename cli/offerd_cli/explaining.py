"""What `offerd explain` prints, for people and for programs."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from offerd.core.usual_units import usual_amounts, usual_resources
from offerd.operator_messages import Cause, Explanation
from offerd_cli.documents import Document
from offerd_cli.fitting import Column
from offerd_cli.render import FittedTable, resources_text
from offerd_cli.units import format_duration, format_quantity


def explanation_document(found: Explanation) -> Document:
    return {
        "framework_id": found.framework_id,
        "name": found.name,
        "role": found.role,
        "state": found.state,
        "needs_offers": found.needs_offers,
        "share": found.share,
        "fair_share": found.fair_share,
        "under_share_s": found.under_share_s,
        "guaranteed": usual_resources(found.guaranteed),
        "under_guarantee_s": found.under_guarantee_s,
        "limit_room": None if found.limit_room is None else usual_amounts(found.limit_room),
        "revoking": found.revoking,
        "being_revoked": found.being_revoked,
        "needed": usual_amounts(found.needed),
        "causes": [_cause_document(cause) for cause in found.causes],
    }


def _cause_document(cause: Cause) -> Document:
    holders = [
        {"kind": holding.kind, "name": holding.name, "amounts": usual_amounts(holding.amounts)}
        for holding in cause.holders
    ]
    return {
        "why": cause.why,
        "slaves": cause.slaves,
        "text": cause.text,
        "free": usual_amounts(cause.free),
        "holders": holders,
    }


def print_explanation(console: Console, found: Explanation) -> None:
    """A few lines on the framework's share, and a table of what keeps the slaves from it."""
    console.print(Text.assemble((found.framework_id, "bold"), f" {found.name}, role {found.role}"))
    for line in _lines(found):
        console.print(line)
    if not found.causes:
        console.print("the cluster has no slaves; start one: offerd slave")
        return
    table = FittedTable(Column("SLAVES", "right"), Column("WHY", wraps=True))
    for cause in found.causes:
        table.add_row(str(cause.slaves), cause.text)
    console.print(table)


def _lines(found: Explanation) -> list[Text]:
    share = f"it holds {found.share:.1%}; its fair share is {found.fair_share:.1%}"
    if found.state != "active":
        lines = [Text(f"{share}; it is {found.state}, so it gets no offers")]
    elif not found.needs_offers:
        lines = [Text(f"{share}; it has asked for no offers")]
    elif found.under_share_s is None:
        lines = [Text(f"{share}: it has its share")]
    else:
        lines = [
            Text.assemble(f"{share}: ", (f"below it for {format_duration(found.under_share_s)}", "yellow"))
        ]
    if found.guaranteed:
        line = Text(f"guaranteed to it: {resources_text(found.guaranteed)}")
        if found.under_guarantee_s is not None:
            line.append(f"; below that for {format_duration(found.under_guarantee_s)}", "yellow")
        lines.append(line)
    if found.revoking:
        lines.append(Text(f"{found.revoking} tasks of other frameworks have been asked to make room for it"))
    if found.being_revoked:
        lines.append(
            Text(f"{found.being_revoked} of its tasks have been asked to make room for others", "yellow")
        )
    if found.limit_room is not None:
        lines.append(Text(f"its limit lets it hold {_quantities_text(found.limit_room)} more"))
    if found.needed:
        lines.append(Text(f"its filters ask for at least {_quantities_text(found.needed)} on one slave"))
    return lines


def _quantities_text(amounts: dict[str, int]) -> str:
    return ", ".join(f"{format_quantity(name, amount)} {name}" for name, amount in amounts.items())
