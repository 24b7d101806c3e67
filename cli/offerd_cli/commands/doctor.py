"""`offerd doctor`: what this host can do, and the commands that make the rest possible."""

from __future__ import annotations

import click

from offerd_cli.options import json_option


@click.command(short_help="Check what this host can do, and show how to fix the rest.")
@json_option
def command(*, as_json: bool) -> None:
    """Check which features of this host offerd can use, and show the commands that add missing ones.

    \b
    offerd doctor
    offerd doctor --json

    A missing feature is not an error: without cgroups, docker or ZooKeeper, offerd runs with less isolation and with one
    master.
    """
    from offerd_cli import doctor, documents, render

    findings = doctor.examine()
    if as_json:
        documents.print_document({"checks": [finding._asdict() for finding in findings]})
        return
    out = render.console()
    render.print_findings(out, findings)
    missing = sum(not finding.ok for finding in findings)
    out.print()
    out.print(
        f"{missing} of {len(findings)} missing; offerd works without them"
        if missing
        else "everything is available"
    )
