"""doctor: what could stand in the way, each with its cure."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import at_terminal, console, print_json, printable, say
from hpcrun.workflow.doctor import examine
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.session import open_session

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@click.argument("target", required=False)
@json_option
@click.pass_obj
def doctor(workspace: str | None, target: str | None, as_json: bool) -> int:
    """Check this machine, the workspace and a target. Exits with 1 if something is in the way."""
    return tell([*examine(open_session(given=workspace), target)], as_json)


def tell(findings: Sequence[Finding], as_json: bool) -> int:
    """Prints findings; gives the exit code: 1 if one of them is an error."""
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print_finding(finding)
    return 1 if any(finding.grade == "error" for finding in findings) else 0


def print_finding(finding: Finding) -> None:
    """A finding as a line, with its cure."""
    line = f"{finding.subject}: {finding.message}"
    cure = f"  → {finding.cure}" if finding.cure else ""
    if not at_terminal():
        say(f"{finding.grade}\t{line}{cure}")
        return
    from rich.text import Text

    grade = Text(f"{finding.grade:>8}  ", style=_COLORS[finding.grade])
    console().print(
        grade + Text(printable(line)) + Text(printable(cure), style="bold"), soft_wrap=True
    )
