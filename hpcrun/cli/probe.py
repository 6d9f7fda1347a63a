"""store probe: what the file system under the workspace honours."""

from __future__ import annotations

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.workflow.session import open_session


@click.command()
@click.option("-t", "--target", metavar="SITE/TARGET", help="Whose nodes; default: this host.")
@click.option(
    "--timeout",
    type=float,
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Cancel the job if it has not ended by then.",
)
@json_option
@click.pass_obj
def probe(workspace: str | None, target: str | None, timeout: float, as_json: bool) -> int:
    """Find out by a job on two nodes what the file system under the workspace honours.

    Says what it means for hpcrun, and notes it in workspace.json. Exits with 1 if something is in
    the way.
    """
    # Other commands of the group need none of this.
    from hpcrun.cli.doctor import print_finding
    from hpcrun.workflow.probe import probe as probe_store

    session = open_session(given=workspace)
    seen, findings = probe_store(session, target, timeout, lambda text: say(text, err=True))
    if as_json:
        print_json({"seen": seen, "findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            print_finding(finding)
    return 1 if any(finding.grade == "error" for finding in findings) else 0
